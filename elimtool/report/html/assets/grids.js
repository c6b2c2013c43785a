// Heat maps: real tables whose cells are coloured, so that the picture and its numbers are one.

function stepOf(value, borders) {
  let step = 0;
  while (step < borders.length && value >= borders[step]) step += 1;
  return step;
}

function drawHeat(figure, pick) {
  const borders = front.steps[figure.unit];
  const masked = new Set(figure.masked.map(([row, column]) => `${row},${column}`));
  const label = (row, column) =>
    masked.has(`${row},${column}`) ? "outside the window" : spell(figure.values[row][column], figure.unit);
  const head = make("tr", {}, [make("th", { scope: "col", text: figure.row_title })]);
  const every = figure.columns.length > 16 ? 5 : 1;
  figure.columns.forEach((name, at) =>
    head.append(make("th", { scope: "col", "aria-label": `${figure.column_title} ${name}`, text: at % every ? "" : name })));
  const body = make("tbody", {}, figure.rows.map((name, row) => {
    const line = make("tr", {}, [make("th", { scope: "row", title: name }, [foreign(name)])]);
    figure.columns.forEach((_, column) => line.append(heatCell(figure, row, column, borders, masked, label)));
    return line;
  }));
  const table = make("table", { class: `heat${figure.unit === "shift" ? " shift" : ""}${pick ? " clickable" : ""}`, "data-figure": figure.name },
    [make("thead", {}, [head]), body]);
  const scroll = make("div", {
    class: figure.rows.length > 24 ? "scroll tall" : "scroll", tabindex: 0, role: "group",
    "aria-label": `${figure.title}. Arrow keys move from cell to cell${pick ? ", Enter opens the layer's heads" : ""}.`,
  }, [table]);
  const tell = (row, column) =>
    `${figure.rows[row]}\n${figure.column_title} ${figure.columns[column]}: ${label(row, column)}`;
  followCells(scroll, table, tell, pick);
  return [scroll, heatTools(figure, table, borders)];
}

function heatCell(figure, row, column, borders, masked, label) {
  const value = figure.values[row][column];
  const hidden = masked.has(`${row},${column}`);
  return make("td", {
    class: hidden ? "masked" : value === null ? "unknown" : null,
    "data-step": value === null ? null : stepOf(value, borders),
    text: value === null && !hidden ? "–" : hidden ? "×" : label(row, column),
  });
}

// Pointer and arrow keys both choose a cell, which the tooltip describes.
function followCells(scroll, table, tell, pick) {
  let at = null;
  const choose = (cell) => {
    if (at) at.classList.remove("at");
    at = cell;
    if (!cell) return hideTip();
    cell.classList.add("at");
    const box = cell.getBoundingClientRect();
    showTip(tell(cell.parentNode.sectionRowIndex, cell.cellIndex - 1), box.left + box.width / 2, box.bottom - 6);
  };
  const use = (cell) => pick && pick(cell.cellIndex - 1);
  table.addEventListener("pointerover", (event) => choose(event.target.closest("td")));
  table.addEventListener("pointerleave", () => choose(null));
  table.addEventListener("click", (event) => event.target.closest("td") && use(event.target.closest("td")));
  scroll.addEventListener("blur", () => choose(null));
  scroll.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Enter" && at) return use(at);
    if (event.key === "Escape") return choose(null);
    if (!moves[event.key]) return undefined;
    event.preventDefault();
    const rows = table.tBodies[0].rows;
    const [down, right] = at ? moves[event.key] : [0, 0];
    const row = at ? Math.min(Math.max(at.parentNode.sectionRowIndex + down, 0), rows.length - 1) : 0;
    const column = at ? Math.min(Math.max(at.cellIndex + right, 1), rows[row].cells.length - 1) : 1;
    const cell = rows[row].cells[column];
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    return choose(cell);
  });
}

function heatTools(figure, table, borders) {
  const shown = make("button", { type: "button", "aria-pressed": "false", text: "Show numbers" });
  shown.addEventListener("click", () => {
    const on = table.classList.toggle("numbers");
    shown.setAttribute("aria-pressed", String(on));
  });
  const legend = make("div", { class: "legend", "aria-label": "Colours" });
  for (let step = 0; step <= borders.length; step += 1) {
    const text = step === 0 ? `< ${spell(borders[0], figure.unit)}` : `≥ ${spell(borders[step - 1], figure.unit)}`;
    legend.append(make("span", {}, [
      make("span", { class: "swatch", style: { background: `var(--${figure.unit === "shift" ? "shift" : "heat"}-${step})` } }), document.createTextNode(text)]));
  }
  if (figure.masked.length) legend.append(make("span", { text: "hatched: outside the layer's window, not eliminated" }));
  return make("div", { class: "row tools" }, [shown, legend]);
}
