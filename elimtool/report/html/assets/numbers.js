// What numbers mean: the words of the tables that they come from, told where a number is pointed at.

// Lines for a tooltip: the definitions of a figure's numbers, or of those with these names.
function meanings(figure, names) {
  const known = front.defined || {};
  const name = figure.name.replace(/_\d+$/, ""); // of several in one page the later ones are numbered
  const own = known[`${name}:${figure.kind}`] || known[name] || {};
  return Object.entries(own).filter(([one]) => !names || names.includes(one)).map(([one, text]) => `${one}: ${text}`);
}

// The number in a cell, by the names of its row and its column, and what it means.
function tellNumber(figure, table, row, column) {
  const heads = table.tHead.rows[0].cells;
  const [first, cell] = [0, column + 1].map((at) => table.tBodies[0].rows[row].cells[at]);
  const name = heads[column + 1] ? heads[column + 1].textContent : "";
  const own = meanings(figure, [name]);
  const told = own.length || column < 0 ? own : meanings(figure);
  if (!told.length || !cell.textContent) return "";
  return [`${first.textContent}${column < 0 ? "" : `, ${name}: ${cell.textContent}`}`, ...told].join("\n");
}

// Items that tell of themselves: to the pointer, and to the up and down keys once their box has the focus.
function tellItems(box, items) {
  let at = null;
  const choose = (item) => {
    if (at) at.classList.remove("at");
    at = item;
    if (!item) return hideTip();
    item.classList.add("at");
    const place = item.getBoundingClientRect();
    return showTip(items.get(item), place.left + 20, place.bottom - 6);
  };
  const told = [...items.keys()];
  for (const item of told) fill(item, { on: { pointerenter: () => choose(item) } });
  return fill(box, { tabindex: 0, role: "group", on: { pointerleave: () => choose(null), blur: () => choose(null), keydown: (event) => {
    if (event.key === "Escape") choose(null);
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(told[at ? Math.min(Math.max(told.indexOf(at) + step, 0), told.length - 1) : 0]);
    at.scrollIntoView({ block: "nearest" });
  } } });
}
