// Line charts by layer, and columns over an ordered axis, as SVG of the width at hand.

// Entry points up at its reading from below, lost down from above, the others sit on it: none hides another.
const EVENT_SHAPES = {
  entry: (x, y) => `M${x - 6},${y + 17}h12L${x},${y + 6}Z`,
  commit: (x, y) => `M${x - 5},${y - 5}h10v10h-10Z`,
  lost: (x, y) => `M${x - 6},${y - 17}h12L${x},${y - 6}Z`,
  decision: (x, y) => `M${x},${y - 6}L${x + 6},${y}L${x},${y + 6}L${x - 6},${y}Z`,
};
const EVENT_MIDDLE = { entry: 12, commit: 0, lost: -12, decision: 0 };
const COLOURS = 6;
const colourOf = (index) => `var(--line-${index % COLOURS})`;
const placeOf = (line, index) => line.colour ?? index;
const dashOf = (line, index) => line.is_foil ? "2 4" : line.dashed ? "7 4" : [null, "7 4", "2 3"][Math.floor(placeOf(line, index) / COLOURS) % 3];
const layerName = (layer) => (layer < 0 ? "embedding" : `layer ${layer}`);
const MARGIN = { left: 52, right: 14, top: 12, bottom: 36 };

function drawLines(figure, pick) {
  const holder = make("div", { class: "chart", "data-figure": figure.name });
  const redraw = () => holder.replaceChildren(linesSvg(figure, Math.max(holder.clientWidth, 280), pick));
  new ResizeObserver(redraw).observe(holder);
  return [holder, linesLegend(figure)];
}

function scales(figure, width, height) {
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const last = Math.max(figure.layers.length - 1, 1);
  const x = (index) => MARGIN.left + (inner.width * index) / last;
  const known = figure.lines.flatMap((line) => [...line.values, ...line.low, ...line.high]).filter((value) => value !== null);
  if (spansZero(figure)) {
    const low = Math.min(0, ...known), high = Math.max(low + 1e-9, 0, ...known);
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((one) => (high - low) / one <= 6) || 200;
    const ticks = [];
    for (let at = Math.ceil(low / step); at * step <= high; at += 1) ticks.push(at * step);
    return { x, inner, ticks, y: (value) => MARGIN.top + (inner.height * (high - value)) / (high - low) };
  }
  if (figure.unit !== "rank") {
    const top = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((one) => one >= Math.max(0, ...known)) || 1;
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => part * top);
    return { x, inner, ticks, y: (p) => MARGIN.top + inner.height * (1 - p / top) };
  }
  const worst = Math.max(10, ...known);
  const ticks = [1];
  while (ticks[ticks.length - 1] * 10 <= worst) ticks.push(ticks[ticks.length - 1] * 10);
  return { x, inner, ticks, y: (rank) => MARGIN.top + (inner.height * Math.log(rank)) / Math.log(worst) };
}

const spansZero = (figure) => figure.unit === "nats" || figure.unit === "ratio";
const tickUnit = (unit) => ({ bits: "prob", nats: "shift", ratio: "shift" }[unit] || unit);

function linesSvg(figure, width, pick) {
  const height = 280;
  const { x, y, ticks, inner } = scales(figure, width, height);
  const svg = shape("svg", {
    viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0,
    "aria-label": `${figure.title}. Left and right arrow keys move from ${figure.axis} to ${figure.axis}${pick ? ", Enter opens it" : ""}; the numbers are below.`,
  });
  const half = inner.width / Math.max(figure.layers.length - 1, 1) / 2;
  for (const [first, last] of figure.shaded) {
    const [left, right] = [x(figure.layers.indexOf(first)) - half, x(figure.layers.indexOf(last)) + half].map((one) => Math.min(Math.max(one, MARGIN.left), width - MARGIN.right));
    svg.append(shape("rect", { class: "shaded", x: left, width: right - left, y: MARGIN.top, height: inner.height }));
  }
  for (const tick of ticks) {
    svg.append(shape("line", { class: spansZero(figure) && tick === 0 ? "axis zero" : "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }));
    svg.append(shape("text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end", text: spell(tick, tickUnit(figure.unit)) }));
  }
  const every = Math.ceil((figure.layers.length * 30) / inner.width);
  figure.layers.forEach((layer, index) => {
    if (index % every) return;
    svg.append(shape("text", { x: x(index), y: height - 18, "text-anchor": "middle", text: layer < 0 ? "emb" : layer }));
  });
  svg.append(shape("text", { x: MARGIN.left + inner.width / 2, y: height - 2, "text-anchor": "middle", text: figure.axis }));
  // bands lie below all lines, whose colours they would change
  const shapes = figure.lines.flatMap((line, index) => lineShapes(figure, line, index, x, y));
  const isBand = (one) => one.classList.contains("band");
  svg.append(...shapes.filter(isBand), ...shapes.filter((one) => !isBand(one)));
  follow(svg, { count: figure.layers.length, x, inner, height, tell: (at) => tellLayer(figure, at), pick });
  return svg;
}

function lineShapes(figure, line, index, x, y) {
  let path = "";
  line.values.forEach((value, at) => {
    if (value !== null) path += `${path && line.values[at - 1] !== null ? "L" : "M"}${x(at).toFixed(1)},${y(value).toFixed(1)}`;
  });
  const stroke = { stroke: colourOf(placeOf(line, index)) };
  const known = line.values.map((_, at) => at).filter((at) => line.low.length && line.low[at] !== null && line.high[at] !== null);
  const edge = (ends, some) => some.map((at) => `${x(at).toFixed(1)},${y(ends[at]).toFixed(1)}`);
  const band = known.length > 1 ? [shape("polygon", { class: "band", points: [...edge(line.high, known), ...edge(line.low, [...known].reverse())].join(" "), style: { fill: colourOf(placeOf(line, index)) } })] : [];
  const drawn = [...band, shape("path", { class: "line", d: path, "stroke-dasharray": dashOf(line, index), style: stroke })];
  for (const mark of line.marks) {
    const at = figure.layers.indexOf(mark.layer);
    if (at < 0 || line.values[at] === null) continue;
    const d = EVENT_SHAPES[mark.event](x(at), y(line.values[at]));
    drawn.push(shape("path", { class: "mark", d, style: { fill: colourOf(placeOf(line, index)) }, "data-event": mark.event }));
  }
  return drawn;
}

function tellLayer(figure, at) {
  const said = figure.lines.map((line) => {
    const events = line.marks.filter((mark) => mark.layer === figure.layers[at]).map((mark) => `, ${mark.event}`);
    const range = line.low.length && line.low[at] !== null ? ` (${spell(line.low[at], figure.unit)} to ${spell(line.high[at], figure.unit)})` : "";
    return `${line.name}: ${spell(line.values[at], figure.unit)}${range}${events.join("")}`;
  });
  const shaded = figure.shaded.some(([first, last]) => first <= figure.layers[at] && figure.layers[at] <= last) ? [figure.shaded_as] : [];
  return [figure.axis === "layer" ? layerName(figure.layers[at]) : `${figure.axis} ${figure.layers[at]}`, ...said, ...shaded, ...meanings(figure)].join("\n");
}

// A guide and a tooltip at the place nearest to the pointer, or where the arrow keys moved it.
function follow(svg, { count, x, inner, height, tell, pick }) {
  const guide = shape("line", { class: "guide", y1: MARGIN.top, y2: height - MARGIN.bottom, visibility: "hidden" });
  svg.append(guide);
  let at = -1;
  const choose = (index, clientY) => {
    at = Math.min(Math.max(index, 0), count - 1);
    fill(guide, { x1: x(at), x2: x(at), visibility: "visible" });
    const box = svg.getBoundingClientRect();
    showTip(tell(at), box.left + (x(at) * box.width) / svg.viewBox.baseVal.width, clientY ?? box.top + 40);
  };
  const leave = () => {
    guide.setAttribute("visibility", "hidden");
    hideTip();
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const inside = ((event.clientX - box.left) * svg.viewBox.baseVal.width) / box.width - x(0);
    choose(Math.round((inside / inner.width) * (count - 1)), event.clientY);
  });
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") leave();
    if (event.key === "Enter" && pick && at >= 0) pick(at);
    if (!step) return;
    event.preventDefault();
    choose(at + step);
  });
  if (!pick) return;
  svg.classList.add("clickable");
  svg.addEventListener("click", () => { if (at >= 0) pick(at); });
}

function linesLegend(figure) {
  const legend = make("div", { class: "legend key" }, figure.lines.map((line, index) => make("span", {}, [
    shape("svg", { viewBox: "0 0 36 12", "aria-hidden": "true" }, [shape("path", {
      class: "line", d: "M1,6H35", "stroke-dasharray": dashOf(line, index), style: { stroke: colourOf(placeOf(line, index)) } })]),
    foreign(line.name)])));
  if (figure.shaded.length) legend.append(make("span", {}, [make("span", { class: "swatch shaded" }), foreign(figure.shaded_as)]));
  const events = new Set(figure.lines.flatMap((line) => line.marks.map((mark) => mark.event)));
  for (const event of Object.keys(EVENT_SHAPES).filter((name) => events.has(name)))
    legend.append(make("span", {}, [shape("svg", { viewBox: "0 0 36 14", "aria-hidden": "true" }, [
      shape("path", { d: EVENT_SHAPES[event](18, 7 - EVENT_MIDDLE[event]), style: { fill: "var(--quiet)" } })]), document.createTextNode(event)]));
  return legend;
}

function drawColumns(figure) {
  const holder = make("div", { class: "chart", "data-figure": figure.name });
  new ResizeObserver(() => holder.replaceChildren(columnsSvg(figure, Math.max(holder.clientWidth, 280)))).observe(holder);
  return [holder];
}

function columnsSvg(figure, width) {
  const height = 200;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const most = Math.max(1, ...figure.values);
  const each = inner.width / figure.values.length;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${figure.title}. The numbers are below.` });
  for (const tick of [0, most]) {
    const y = MARGIN.top + inner.height * (1 - tick / most);
    svg.append(shape("line", { class: figure.unit === "nats" && tick === 0 ? "axis zero" : "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }));
    svg.append(shape("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end", text: spell(tick) }));
  }
  const every = Math.ceil(30 / each);
  figure.values.forEach((value, index) => {
    const tall = (inner.height * value) / most;
    const left = MARGIN.left + each * index;
    const bar = shape("rect", { class: "column", x: left + each * 0.1, width: each * 0.8, y: MARGIN.top + inner.height - tall, height: tall });
    const tell = (event) => showTip([`${figure.x_title} ${figure.labels[index]}: ${spell(value)}`, ...meanings(figure)].join("\n"), event.clientX, event.clientY);
    svg.append(fill(bar, { on: { pointermove: tell, pointerleave: hideTip } }));
    if (index % every === 0)
      svg.append(shape("text", { x: left + each / 2, y: height - 18, "text-anchor": "middle", text: figure.labels[index] }));
  });
  svg.append(shape("text", { x: MARGIN.left + inner.width / 2, y: height - 2, "text-anchor": "middle", text: figure.x_title }));
  return svg;
}
