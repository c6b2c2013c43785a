// One section for each figure: title, note, picture, and its numbers as a table that is made when opened.

const DRAW = { heat: drawHeat, lines: drawLines, bars: drawBars, columns: drawColumns, forest: drawForest, stack: drawStack, funnel: drawFunnel, control: drawControl, listing: drawListing };

function drawFigure(figure, pick) {
  const section = make("section", { "aria-label": figure.title, "data-name": figure.name }, [make("h3", { text: figure.title }),
    figure.note ? make("p", { class: "note", text: figure.note }) : null]);
  const holder = make("div", { class: "holder" });
  section.append(holder);
  whenSeen(holder, () => holder.append(...DRAW[figure.kind](figure, pick)));
  const numbers = NUMBERS[figure.kind];
  if (numbers) section.append(makeNumbers(figure, () => numbers(figure)));
  return section;
}

// Figures are drawn when they come near the screen.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    entry.target.draw();
  }
}, { rootMargin: "600px" });

function whenSeen(holder, draw) {
  holder.draw = () => {
    if (holder.classList.contains("drawn")) return;
    seen.unobserve(holder);
    holder.classList.add("drawn");
    draw();
  };
  seen.observe(holder);
}

addEventListener("beforeprint", () => document.querySelectorAll(".holder").forEach((holder) => holder.draw()));

function makeNumbers(figure, table) {
  const details = make("details", {}, [make("summary", { text: "Numbers" })]);
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(toldTable(figure, table()));
  });
  return details;
}

const TOKEN = /^'[^']{1,22}'$/; // a token in quotes is not broken behind the space that it begins with
const room = (text) => text.length <= 12 || TOKEN.test(text) ? "short" : text.length > 40 ? "sentence" : "";

const NUMERAL = /^[+-]?(\d[\d,]*)?\.?\d+(e[+-]?\d+)?$/;
const numeral = (value) => typeof value === "string" && NUMERAL.test(value) ? Number(value.replaceAll(",", "")) : value;

function plainTable({ columns, rows, links }) {
  const body = make("tbody");
  // Addresses of heads look like decimals, and 18.10 is behind 18.9: they are text.
  const numbers = columns.map((name, at) => /\bhead\b/.test(name) || (links && !at) ? [] : rows.map((row) => numeral(row[at] ?? "")).filter((value) => value !== ""))
    .map((values) => values.length > 0 && values.every((value) => typeof value === "number"));
  const head = make("tr", {}, columns.map((name, at) => make("th", { scope: "col", ...(numbers[at] ? { class: "number" } : {}) },
    [make("button", { type: "button", on: { click: (event) => sort(event.currentTarget.parentNode, at) } }, [foreign(name)])])));
  const cell = (value, at) => links && !at ? make("td", {}, [make("a", { href: links + value }, [foreign(value)])]) : typeof value === "number"
    ? make("td", { class: "number", text: spell(value) }) : numbers[at] ? make("td", { class: "number", text: value ?? NONE }) : make("td", { class: room(String(value ?? NONE)) }, [foreign(value ?? NONE)]);
  const show = (some) => body.replaceChildren(...some.map((row) => make("tr", {}, row.map(cell))));
  // A column's name sorts by it: the largest first, then the least; what has no value stays last.
  const sort = (chosen, at) => {
    const up = chosen.getAttribute("aria-sort") === "descending";
    for (const one of head.cells) one.removeAttribute("aria-sort");
    chosen.setAttribute("aria-sort", up ? "ascending" : "descending");
    const known = rows.filter((row) => (row[at] ?? "") !== "");
    const order = (one, other) => numbers[at] ? numeral(one) - numeral(other) : String(one).localeCompare(String(other), "en", { numeric: true });
    known.sort((one, other) => (up ? 1 : -1) * order(one[at], other[at]));
    show([...known, ...rows.filter((row) => (row[at] ?? "") === "")]);
  };
  show(rows);
  return make("table", { class: "plain" }, [make("thead", {}, [head]), body]);
}

// A table whose numbers tell what they are.
function toldTable(figure, told, attributes) {
  const table = plainTable(told);
  const box = scrolling({ class: "scroll tall", tabindex: 0, role: "group", "aria-label": `${figure.title}. Arrow keys move from cell to cell.`, ...attributes }, [table]);
  followCells(box.firstElementChild, table, (row, column) => tellNumber(figure, table, row, column));
  return box;
}

function drawListing(figure) {
  return [toldTable(figure, figure, { "data-figure": figure.name })];
}

const NUMBERS = {
  lines: (figure) => {
    const marked = figure.lines.some((line) => line.marks.length);
    const [some, ranges] = [(line) => line.values.some((value) => value !== null), (line) => line.low.length > 0];
    const ofLine = (line) => [...(some(line) ? [line.name] : []), ...(ranges(line) ? [`${line.name}, from`, "to"] : [])];
    const numbers = (line, at) => [...(some(line) ? [line.values[at]] : []), ...(ranges(line) ? [line.low[at], line.high[at]] : [])];
    return {
      columns: [figure.axis, ...figure.lines.flatMap(ofLine), ...(marked ? ["events"] : [])],
      rows: figure.layers.map((layer, at) => [layer < 0 ? "embedding" : String(layer),
        ...figure.lines.flatMap((line) => numbers(line, at)),
        ...(marked ? [figure.lines.flatMap((line) => line.marks.filter((mark) => mark.layer === layer).map((mark) => `${line.name} ${mark.event}`)).join(", ")] : [])]),
    };
  },
  control: (figure) => figure,
  forest: (figure) => ({ columns: [figure.label_title, figure.value_title, "low", "high", ...(figure.mark_title ? [figure.mark_title] : []), ""],
    rows: figure.rows.map((row) => [row.label, row.value, row.low, row.high, ...(figure.mark_title ? [row.mark] : []), row.text]) }),
  columns: (figure) => ({ columns: [figure.x_title, figure.value_title], rows: figure.labels.map((name, at) => [name, figure.values[at]]) }),
  stack: (figure) => ({ columns: [figure.label_title, ...figure.keys], rows: figure.rows.map((row) => [row.label, ...row.counts]) }),
};
