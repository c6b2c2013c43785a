// Bars and parts of a whole: tables with a drawn column next to the numbers.

function drawBars(figure) {
  const size = (value) => (figure.log ? Math.log(Math.max(value, 1)) : Math.abs(value));
  const peak = Math.max(1e-12, ...figure.bars.map((bar) => size(bar.value)));
  // a track stands for the whole: shares fill their part of it, and small ones, drawn larger than that, have none
  const shares = figure.value_title === "share", near = shares && peak >= 0.25;
  const most = near ? Math.max(1, peak) : peak;
  const both = figure.bars.some((bar) => bar.value < 0);
  const said = figure.bars.some((bar) => bar.text);
  const head = make("tr", {}, [make("th", { scope: "col", text: figure.label_title }),
    make("th", { scope: "col", text: figure.value_title }), make("td", {}), said && make("td", {})]);
  const rows = figure.bars.map((bar) => {
    const name = bar.prompt ? make("a", { href: promptAddress(bar.prompt) }, [foreign(bar.label)]) : foreign(bar.label);
    const part = (100 * size(bar.value)) / most / (both ? 2 : 1);
    const left = !both ? 0 : bar.value < 0 ? 50 - part : 50;
    const filled = make("div", { class: bar.value < 0 ? "fill against" : "fill", style: { left: `${left}%`, width: `${part}%` } });
    const zero = both && make("div", { class: "zero", style: { left: "50%" } });
    return make("tr", {}, [make("th", { scope: "row", title: bar.label }, [name]),
      make("td", { class: "number", text: spell(bar.value, figure.value_title) }),
      make("td", {}, [make("div", { class: shares && !near ? "track open" : "track", "aria-hidden": "true" }, [filled, zero])]),
      said && make("td", { class: "said", text: bar.text })]);
  });
  return drawRows(figure, make("table", { class: said ? "bars said" : "bars", "data-figure": figure.name }, [make("thead", {}, [head]), make("tbody", {}, rows)]));
}

// The table of bars or estimates, whose numbers tell what they are.
function drawRows(figure, table) {
  const box = scrolling({ class: "scroll", tabindex: 0, role: "group", "aria-label": `${figure.title}. Arrow keys move from row to row.` }, [table]);
  followCells(box.firstElementChild, table, (row) => tellNumber(figure, table, row, 0));
  return [box];
}

// A dot on its interval, filled where the estimate is unlike what it is held against: 0, or the row's own tick.
function drawForest(figure) {
  const known = figure.rows.flatMap((row) => [row.value, row.low, row.high, row.mark]).filter((value) => value !== null);
  const low = Math.min(0, ...known), high = Math.max(0, ...known), wide = high - low || 1;
  const at = (value) => `${(2 + (96 * (value - low)) / wide).toFixed(2)}%`;
  const rows = figure.rows.map((row) => {
    const side = row.value < 0 ? " against" : "";
    const range = row.low === null ? null : make("div", { class: `range${side}`, style: { left: at(row.low), width: `${(96 * (row.high - row.low)) / wide}%` } });
    const dot = row.value === null ? null : make("div", { class: `dot${side}${row.certain ? " certain" : ""}`, style: { left: at(row.value) } });
    const tick = row.mark === null ? null : make("div", { class: "tick", style: { left: at(row.mark) } });
    return make("tr", {}, [make("th", { scope: "row", title: row.label, style: { "padding-left": `${row.depth}em` } }, [foreign(row.label)]),
      make("td", { class: "number", text: spell(row.value, figure.value_title) }),
      make("td", {}, [make("div", { class: "track", "aria-hidden": "true" }, [make("div", { class: "zero", style: { left: at(0) } }), range, tick, dot])]),
      make("td", { class: "said", text: row.text })]);
  });
  const head = make("tr", {}, [make("th", { scope: "col", text: figure.label_title }), make("th", { scope: "col", text: figure.value_title }), make("td", {}), make("td", {})]);
  return drawRows(figure, make("table", { class: "bars said forest", "data-figure": figure.name }, [make("thead", {}, [head]), make("tbody", {}, rows)]));
}

function drawStack(figure) {
  const told = new Map();
  const rows = figure.rows.map((row) => {
    const total = row.counts.reduce((sum, count) => sum + count, 0);
    const parts = row.counts.map((count, index) => {
      if (!count) return null;
      const part = make("span", { class: "part", text: count, style: { width: `${(100 * count) / total}%`, background: colourOf(index) } });
      told.set(part, [`${row.label}: ${count} of ${total} ${figure.keys[index]}`, ...meanings(figure)].join("\n"));
      return part;
    });
    return make("tr", {}, [make("th", { scope: "row", title: row.label }, [foreign(row.label)]),
      make("td", {}, [make("div", { class: "track", "aria-hidden": "true" }, parts)]), make("td", { class: "said", text: `of ${total}` })]);
  });
  const legend = make("div", { class: "legend" }, figure.keys.map((key, index) => make("span", {}, [
    make("span", { class: "swatch", style: { background: colourOf(index) } }), document.createTextNode(key)])));
  const label = `${figure.title}. Up and down arrow keys move from part to part.`;
  const box = scrolling({ class: "scroll", "aria-label": label }, [make("table", { class: "bars stack", "data-figure": figure.name }, [make("tbody", {}, rows)])]);
  tellItems(box.firstElementChild, told);
  return [legend, box];
}
