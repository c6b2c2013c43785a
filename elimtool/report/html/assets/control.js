// Control charts: a number over runs, its intervals and limits, with marks on the runs that stand out.

const OUT = "out of limits", CHANGE = "change point";
const RUN_MARKS = {
  [OUT]: (x, y) => ({ d: `M${x - 5},${y - 5}h10v10h-10Z`, style: { fill: "var(--line-1)" } }),
  [CHANGE]: (x, y) => ({ d: `M${x},${y - 9}L${x + 9},${y + 7}L${x - 9},${y + 7}Z`, style: { fill: "none", stroke: "var(--line-1)", "stroke-width": 2 } }),
};
const LIMIT = { class: "axis zero", "stroke-dasharray": "6 3" };
const NAME = 14; // characters of a run below the axis; the tooltip and the numbers have all

function drawControl(figure) {
  const holder = make("div", { class: "chart", "data-figure": figure.name });
  new ResizeObserver(() => holder.replaceChildren(controlSvg(figure, Math.max(holder.clientWidth, 280)))).observe(holder);
  return [holder, controlLegend(figure)];
}

function controlTicks(figure) {
  const known = [...figure.values, ...figure.intervals.flat(), ...(figure.limits || [])].filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known);
  const pad = (high - low) * 0.06 || Math.abs(high) * 1e-3 || 1;
  const decade = 10 ** Math.floor(Math.log10((high - low + 2 * pad) / 5));
  const step = [1, 2, 5, 10].map((one) => one * decade).find((one) => (high - low + 2 * pad) / one <= 6);
  const ticks = [];
  for (let at = Math.ceil((low - pad) / step); at * step <= high + pad; at += 1) ticks.push(at * step);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return { low: low - pad, high: high + pad, ticks, write: (value) => value.toFixed(Math.min(places, 20)) };
}

function controlSvg(figure, width) {
  const height = 300, count = figure.runs.length;
  const { low, high, ticks, write } = controlTicks(figure);
  const left = 14 + 7 * Math.max(...ticks.map((tick) => write(tick).length)), side = 10;
  const inner = { width: width - left - MARGIN.right - 2 * side, height: height - MARGIN.top - MARGIN.bottom };
  const x = (at) => left + side + (count > 1 ? (inner.width * at) / (count - 1) : inner.width / 2);
  const y = (value) => MARGIN.top + (inner.height * (high - value)) / (high - low);
  const across = (value, attributes) => shape("line", { x1: left, x2: width - MARGIN.right, y1: y(value), y2: y(value), ...attributes });
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0,
    "aria-label": `${figure.title}. Left and right arrow keys move from run to run; the numbers are below.` });
  for (const tick of ticks)
    svg.append(across(tick, { class: "axis" }), shape("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end", text: write(tick) }));
  if (figure.limits) svg.append(...figure.limits.map((value, at) => across(value, at === 1 ? { class: "axis zero" } : LIMIT)));
  figure.intervals.forEach(([from, to], at) => {
    if (from !== null) svg.append(shape("line", { class: "axis zero", x1: x(at), x2: x(at), y1: y(from), y2: y(to) }));
  });
  svg.append(shape("path", { class: "line", style: { stroke: colourOf(0) }, d: figure.values.map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)},${y(value).toFixed(1)}`).join("") }));
  figure.values.forEach((value, at) => svg.append(shape("circle", { class: "mark", cx: x(at), cy: y(value), r: 4, style: { fill: colourOf(0) } })));
  for (const [name, marked] of [[OUT, figure.beyond], [CHANGE, figure.changed]])
    svg.append(...marked.map((at) => shape("path", { class: "mark", ...RUN_MARKS[name](x(at), y(figure.values[at])), "data-event": name })));
  svg.append(...runNames(figure.runs, x, inner.width, height));
  follow(svg, { count, x, inner, height, tell: (at) => tellRun(figure, at) });
  return svg;
}

// As many names as fit side by side, cut in the middle: numbers that tell builds apart stand at the end.
function runNames(runs, x, width, height) {
  const names = runs.map((name) => (name.length > NAME ? `${name.slice(0, 5)}…${name.slice(6 - NAME)}` : name));
  const every = Math.ceil((runs.length * (7 * Math.max(...names.map((name) => name.length)) + 10)) / width);
  const anchor = (at) => (at && at === runs.length - 1 ? "end" : "middle");
  return names.flatMap((text, at) => (at % every ? [] : [shape("text", { x: x(at), y: height - 18, "text-anchor": anchor(at), text })]));
}

const tellRun = (figure, at) => figure.columns.flatMap((name, column) => {
  const cell = figure.rows[at][column];
  return cell === "" || cell === "–" ? [] : [column && name !== "remark" ? `${name}: ${cell}` : cell];
}).join("\n");

function controlLegend(figure) {
  const key = (text, ...shapes) => make("span", {}, [shape("svg", { viewBox: "0 0 36 18", "aria-hidden": "true" }, shapes), document.createTextNode(text)]);
  const line = (attributes) => shape("line", { x1: 1, x2: 35, y1: 9, y2: 9, ...attributes });
  return make("div", { class: "legend key" }, [
    key(figure.value_title, line({ class: "line", style: { stroke: colourOf(0) } }), shape("circle", { cx: 18, cy: 9, r: 4, style: { fill: colourOf(0) } })),
    figure.limits && key("centre", line({ class: "axis zero" })), figure.limits && key("limits", line(LIMIT)),
    ...[[OUT, figure.beyond], [CHANGE, figure.changed]].filter(([, marked]) => marked.length).map(([name]) =>
      key(name, shape("path", RUN_MARKS[name](18, 9))))]);
}
