// Grids: real tables whose cells are coloured, so that the picture and its numbers are one.

function stepOf(value, borders) {
  let step = 0;
  while (step < borders.length && value >= borders[step]) step += 1;
  return step;
}

const bordersOf = (figure) => (figure.steps && figure.steps.length ? figure.steps : front.steps[figure.unit]);
const isSigned = (borders) => borders.length === 8;
const numbered = (names) => names.every((name) => /^-?\d+$/.test(name));
const cellSet = (cells) => new Set((cells || []).map(([row, column]) => `${row},${column}`));

// Colours go from little to much; of ranks the least is the strongest.
const cellColour = (figure, value, borders) => (figure.unit === "rank" ? borders.length - stepOf(value, borders) : stepOf(value, borders));

// Colours of kinds of cells are those of lines; the last one is for what is hardly worth a colour.
const kindColour = (kind) => (Number(kind) < COLOURS ? colourOf(Number(kind)) : "var(--panel)");

function drawHeat(figure, pick) {
  if (figure.views && figure.views.length) return drawViews(figure);
  const borders = bordersOf(figure);
  const masked = cellSet(figure.masked);
  const dimmed = cellSet(figure.dimmed);
  const words = figure.words && figure.words.length ? figure.words : null;
  const label = (row, column) => masked.has(`${row},${column}`) ? figure.masked_as
    : figure.values[row][column] === null ? figure.blank || NONE : spell(figure.values[row][column], figure.unit);
  const body = make("tbody", {}, figure.rows.map((name, row) => {
    const line = make("tr", { class: (figure.starts || []).includes(row) ? "starts" : null }, [make("th", { scope: "row", title: name }, [foreign(name)])]);
    figure.columns.forEach((_, column) => line.append(heatCell(figure, { row, column, borders, masked, dimmed, words, label })));
    return line;
  }));
  const opened = figure.opened || (figure.opens && figure.opens.length ? make("div", { class: "opened", tabindex: -1 }) : null);
  const use = opened ? (column, row) => openCell(opened, figure.opens[row][column]) : pick;
  const kinds = { signed: isSigned(borders), words, letters: words && words.every((line) => line.every((word) => word.length < 2)), clickable: use, slim: figure.rows.every((name) => name.length < 12),
    upright: !words && figure.columns.length > 7 && figure.columns.some((name) => name.length > 3) };
  const table = make("table", { class: ["heat", ...Object.keys(kinds).filter((name) => kinds[name])].join(" "), "data-figure": figure.name },
    [make("thead", {}, [heatHead(figure)]), body]);
  const scroll = scrolling({
    class: figure.rows.length > (kinds.slim ? 50 : 24) ? "scroll tall" : "scroll", tabindex: 0, role: "group",
    "aria-label": `${figure.title}. Arrow keys move from cell to cell${opened ? ", Enter opens what is known of it" : pick ? ", Enter opens the layer's heads" : ""}.`,
  }, [table]);
  const of = (title, name) => (numbered([name]) ? `${title} ${name}` : name);
  const tell = (row, column) => [of(figure.row_title, figure.rows[row]),
    `${figure.column_title} ${figure.columns[column]}: ${label(row, column)}`,
    words && !opened ? `${figure.value_title.endsWith("the top token") ? "" : "top token "}'${words[row][column]}'` : null,
    dimmed.has(`${row},${column}`) ? figure.dimmed_as : null,
    figure.details && figure.details.length ? figure.details[row][column] : null, ...meaningsOfCell(figure, row)].filter(Boolean).join("\n");
  followCells(scroll.firstElementChild, table, tell, use);
  if (figure.at !== undefined) showPosition(figure, scroll.firstElementChild, table);
  return [scroll, heatTools(figure, table, borders), opened].filter(Boolean);
}

// What the numbers of a grid mean; only that of the row, or of what it is coloured by, where these have names.
const meaningsOfCell = (figure, row) => {
  const names = [figure.rows[row], figure.value_title, figure.value_title.split(" of ")[0]];
  return names.map((name) => meanings(figure, [name])).find((told) => told.length) || meanings(figure);
};

// A grid that is coloured by one of several numbers; what a cell opened stays open.
function drawViews(figure) {
  const opened = figure.opens.length ? make("div", { class: "opened", tabindex: -1 }) : null;
  const [note, below] = [make("p", { class: "note" }), make("div", { class: "views" })];
  const show = (view) => {
    note.textContent = view.note;
    below.replaceChildren(...drawHeat({ ...figure, ...view, title: figure.title, views: [], opened }));
  };
  const choice = make("select", {}, figure.views.map((one, index) => make("option", { value: index, text: one.title })));
  choice.addEventListener("change", () => show(figure.views[choice.value]));
  show(figure.views[0]);
  return [make("label", {}, ["Colour by: ", choice]), note, below];
}

// Show below the grid what a cell stands for.
function openCell(opened, figures) {
  hideTip();
  const back = () => {
    const grid = opened.parentNode.querySelector(".scroll");
    grid.focus({ preventScroll: true });
    grid.scrollIntoView({ block: "nearest" });
  };
  opened.onkeydown = (event) => { if (event.key === "Escape") back(); };
  opened.replaceChildren(make("button", { type: "button", text: "Back to the grid", on: { click: back } }), ...figures.map((figure) => drawFigure(figure)));
  opened.focus({ preventScroll: true });
  opened.scrollIntoView({ block: "nearest" });
}

// Mark the column and the row of the position that the page is at, and open the grid there.
function showPosition(figure, scroll, table) {
  const own = (name) => name.startsWith(`${figure.at}: `);
  const [column, line] = [figure.columns.findIndex(own), figure.rows.findIndex(own)];
  const head = column < 0 ? null : table.tHead.rows[0].cells[column + 1];
  const row = line < 0 ? null : table.tBodies[0].rows[line];
  if (head) head.classList.add("chosen");
  if (row) row.cells[0].classList.add("chosen");
  requestAnimationFrame(() => {
    if (head) scroll.scrollLeft = head.offsetLeft + head.offsetWidth - scroll.clientWidth + 24;
    if (row) scroll.scrollTop = row.offsetTop + row.offsetHeight - scroll.clientHeight + 24;
  });
}

// Of many numbers every fifth is written; texts always are.
function heatHead(figure) {
  const every = figure.columns.length > 16 && numbered(figure.columns) ? 5 : 1;
  return make("tr", {}, [make("th", { scope: "col", text: figure.row_title }),
    ...figure.columns.map((name, at) => make("th", { scope: "col", title: name, "aria-label": `${figure.column_title} ${name}` },
      [at % every ? null : foreign(name)]))]);
}

function heatCell(figure, { row, column, borders, masked, dimmed, words, label }) {
  const value = figure.values[row][column];
  const place = `${row},${column}`;
  const hidden = masked.has(place);
  const number = hidden ? "×" : value === null ? "–" : label(row, column);
  const step = hidden || value === null ? null : cellColour(figure, value, borders);
  const kind = figure.kinds && figure.kinds.length ? figure.kinds[row][column] : null;
  return make("td", { class: hidden ? "masked" : value === null ? "unknown" : dimmed.has(place) ? "dimmed" : null,
    "data-kind": kind, "data-step": kind === null ? step : null },
    words ? [foreign(words[row][column], { class: "word" }), make("span", { class: "value", text: number })] : [document.createTextNode(number)]);
}

// Pointer and arrow keys both choose a cell, which the tooltip describes.
function followCells(scroll, table, tell, pick) {
  let at = null;
  const choose = (cell) => {
    if (at) at.classList.remove("at");
    at = cell;
    if (!cell) return hideTip();
    cell.classList.add("at");
    const told = tell(cell.parentNode.sectionRowIndex, cell.cellIndex - 1);
    if (!told) return hideTip();
    const box = cell.getBoundingClientRect();
    return showTip(told, box.left + Math.min(box.width, 400) / 2, box.bottom - 6);
  };
  const use = (cell) => pick && pick(cell.cellIndex - 1, cell.parentNode.sectionRowIndex);
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
  return make("div", { class: "row tools" }, [shown, heatLegend(figure, borders)]);
}

function heatLegend(figure, borders) {
  const key = (style, text, kind) => make("span", {}, [make("span", { class: `swatch ${kind || ""}`, style }), document.createTextNode(text)]);
  const legend = make("div", { class: "legend", "aria-label": "Colours" }, [make("b", { text: figure.value_title })]);
  const named = Object.entries(figure.kind_names || {});
  for (const [kind, text] of named) legend.append(key({ background: kindColour(kind) }, text));
  for (let step = 0; !named.length && step <= borders.length; step += 1) {
    const text = figure.unit === "rank" ? front.bands[step]
      : step === 0 ? `< ${spell(borders[0], figure.unit)}` : `≥ ${spell(borders[step - 1], figure.unit)}`;
    const colour = figure.unit === "rank" ? borders.length - step : step;
    legend.append(key({ background: `var(--${isSigned(borders) ? "shift" : "heat"}-${colour})` }, text));
  }
  const masked = cellSet(figure.masked);
  const blank = figure.values.some((line, row) => line.some((value, column) => value === null && !masked.has(`${row},${column}`)));
  if (blank) legend.append(key({}, `blank: ${figure.blank || NONE}`));
  if (masked.size) legend.append(key({}, `hatched: ${figure.masked_as}`, "masked"));
  if (figure.dimmed && figure.dimmed.length) legend.append(key({}, `small: ${figure.dimmed_as}`, "dimmed"));
  if (figure.left_out) legend.append(make("span", { text: figure.left_out }));
  return legend;
}
