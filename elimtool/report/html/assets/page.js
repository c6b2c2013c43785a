// Show the whole run, or one prompt at one position. The address says which, so that links can be shared.

const front = readJson("front");
const content = byId("content");

function notice(text) {
  return make("p", { class: "notice" }, [foreign(text)]);
}

// Notes on the whole run or comparison.
const notes = () => (front.notes.length ? make("section", {}, front.notes.map(notice)) : null);

const NOUNS = `${front.noun}s`;

// Open a head of a map, LAYER.HEAD; returns whether there is one of that name.
function openHead(name) {
  const figure = (front.analyses || []).flatMap((one) => one.figures).find((one) => one.opens && one.opens.length);
  const [row, column] = name.split(".").map((one, at) => (figure ? [figure.rows, figure.columns][at].indexOf(one) : -1));
  if (!(row >= 0 && column >= 0)) return false;
  const section = content.querySelector(`[data-name=${figure.name}]`);
  section.querySelector(".holder").draw();
  openCell(section.querySelector(".opened"), figure.opens[row][column]);
  return true;
}

function showRun() {
  const said = [make("h2", { text: front.together, tabindex: -1 }), notes()].filter(Boolean);
  if (front.left_out) said.push(notice(`${whole(front.left_out)} more ${NOUNS} are counted here but not shown one by one.`));
  content.replaceChildren(...said, ...(front.analyses || []).flatMap(drawAnalysis), ...front.overview.map((figure) => drawFigure(figure)));
}

// What a command found in the whole run: its sentences, its figures, what is doubtful.
function drawAnalysis(found) {
  return [make("section", { class: "analysis" }, [make("h3", {}, [foreign(found.title)]),
    ...found.told.map((text) => make("p", {}, [foreign(text)])), ...found.notes.map((text) => make("p", { class: "note" }, [foreign(text)]))]),
    ...found.figures.map((figure) => drawFigure(figure))];
}

// The data of a prompt comes after the script: a prompt may be opened before its data has arrived.
function whenRead(index, use) {
  if (byId(`prompt-${index}`)) return use(readJson(`prompt-${index}`));
  if (document.readyState === "loading") return document.addEventListener("DOMContentLoaded", () => whenRead(index, use), { once: true });
  return content.append(notice(`The data of this ${front.noun} is missing from the file: it was cut short. Write the report again.`));
}

// `given` is the prompt's data where the page has fetched it.
function showPrompt(index, position, given) {
  const line = front.prompts[index];
  const tokens = line.tokens === null ? "" : ` · ${[line.tokens, line.tokens_b].filter((one) => one !== null).map(whole).join(" and ")} tokens`;
  const kept = [line.of === null ? line.id : "", line.group, ...line.tags].filter(Boolean).join(" · ");
  content.replaceChildren(make("section", {}, [make("h2", { tabindex: -1 }, [foreign(line.name)]),
    make("p", { class: "quiet" }, [foreign(`${kept}${tokens}`.replace(/^ · /, ""))]),
    line.of === null ? null : make("p", {}, ["A control of ", make("a", { href: promptAddress(line.of) }, [foreign(nameOf(line.of))])]),
    ...(line.other ? (line.sides || ["A", "B"]).map((side, at) => promptText(`Prompt ${side}`, at ? line.other : line.text, side, line.parts && line.parts[at]))
      : [promptText("The prompt", line.text)]), ...(line.notes || []).map((text) => make("p", { class: "note" }, [foreign(text)]))]));
  if ((front.alone || front.prompts.length + front.left_out === 1) && front.notes.length) content.append(notes());
  if (line.error) return void content.append(make("section", {}, [make("p", {}, [badge("error", "error"), " ", foreign(line.error)])]));
  return given ? showProbe(line, given, position) : whenRead(index, (prompt) => showProbe(line, prompt, position));
}

const nameOf = (id) => (front.prompts.find((one) => one.id === id) || { name: id }).name;

// Of two prompts each is labelled with its side, and what the other lacks is marked.
function promptText(label, text, side, parts) {
  const box = scrolling({ class: "prompt-text", tabindex: 0, role: "group", "aria-label": label }, [make("pre", { dir: "auto" },
    parts ? parts.map(([part, changed]) => (changed ? make("mark", { text: part }) : document.createTextNode(part)))
      : [document.createTextNode(text || "(no text)")])]);
  return make("div", { class: "side" }, [side ? make("b", { text: side, "aria-hidden": true }) : null, box]);
}

// The edits that a pair is compared with, behind all that is told of the pair itself.
function drawControls(id) {
  const own = front.prompts.filter((one) => one.of === id);
  if (!own.length) return null;
  const links = own.map((one) => make("li", {}, [make("a", { href: promptAddress(one.id) }, [foreign(one.name)]), ` ${one.outcome_words}`]));
  return make("section", { id: "controls" }, [make("h3", { text: "Its controls" }),
    make("p", { class: "note", text: "Edits of the same size and place that should not matter, and that all bands are made of." }),
    make("details", {}, [make("summary", { text: `${whole(own.length)} controls` }), make("ul", {}, links)])]);
}

function showProbe(line, prompt, position) {
  const { probes } = prompt;
  if (!probes.length) return void content.append(notice(`Nothing was measured for this ${front.noun}.`));
  const probe = probes.find((one) => one.position === position) || probes[probes.length - 1];
  const where = probe.where.length ? probe.where.map((text) => make("p", {}, [foreign(text)]))
    : [make("p", {}, [`Read at position ${probe.position} `, foreign(probe.token)])];
  content.append(make("section", {}, [...(probes.length > 1 ? [choosePosition(line, probes, probe)] : where),
    prompt.left_out ? notice(`${whole(prompt.left_out)} earlier positions were probed too: they are in the tables.`) : null,
    probe.after ? make("p", { class: "note" }, [foreign(`${probe.after[0].toUpperCase()}${probe.after.slice(1)}.`)]) : null,
    ...probe.verdicts.map(drawVerdict), probe.regime ? make("p", { class: "note", text: probe.regime }) : null]));
  const grids = (prompt.grids || []).map(({ figures, label }) => {
    for (const figure of figures) figure.at = probe.position;
    return { drawn: chooseOne(figures, label), wide: figures[0].columns.length > 1 };
  });
  content.append(...grids.filter((grid) => grid.wide).map((grid) => grid.drawn));
  const chosen = Object.keys(ONE_OF);
  for (const figure of probe.figures.filter((one) => !chosen.includes(one.name))) content.append(...withHeads(figure, probe));
  if (probe.heads) content.append(chooseOne(headsBySpan(probe.heads), "Attention of heads"));
  for (const name of chosen) {
    const some = probe.figures.filter((figure) => figure.name === name);
    if (some.length) content.append(chooseOne(some, ONE_OF[name]));
  }
  // the one column of a prompt read at one position would push everything else off the screen
  content.append(...grids.filter((grid) => !grid.wide).map((grid) => grid.drawn));
  content.append(...[...prompt.figures.map((figure) => drawFigure(figure)), drawControls(line.id)].filter(Boolean));
}

function choosePosition(line, probes, probe) {
  const choice = make("select", {}, probes.map((one) => make("option", {
    value: one.position, selected: one === probe, text: `${one.position} ${one.token}` })));
  choice.addEventListener("change", () => { location.hash = `${promptAddress(line.id)}&at=${choice.value}`; });
  return make("label", {}, ["Read at position ", choice, ` of ${whole(probes.length)}`]);
}

// A term of the glossary, which the pointer, the keyboard's focus and a tap all explain; other words are plain.
function term(tag, text, attributes) {
  if (!Object.hasOwn(front.glossary, text)) return make(tag, { text, ...attributes });
  const tell = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    showTip(front.glossary[text], box.left, box.bottom - 12);
  };
  const hide = (event) => { if (event.key === "Escape") hideTip(); };
  return make(tag, { text, tabindex: 0, ...attributes,
    on: { pointerenter: tell, focus: tell, click: tell, pointerleave: hideTip, blur: hideTip, keydown: hide } });
}

const badge = (name, words) => term("span", words, { class: `badge ${name}` });

// A text with the terms of the glossary explained; quoted tokens are left alone.
function explained(text) {
  const terms = Object.keys(front.glossary).sort((a, b) => b.length - a.length).map((term) => term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return text.split(new RegExp(`('[^']*'|\\b(?:${terms.join("|")})\\b)`)).map((part) =>
    Object.hasOwn(front.glossary, part) ? term("abbr", part) : part);
}

function drawVerdict(one) {
  const evidence = one.evidence ? make("span", { class: "quiet", text: `evidence: ${one.evidence}` }) : null;
  const regime = one.regime ? make("span", { class: "quiet", text: `regime: ${one.regime}` }) : null;
  const known = /^[a-z_]+$/.test(one.outcome) ? one.outcome : "";
  return make("div", { class: `verdict ${known}` }, [
    make("div", { class: "row" }, [make("b", {}, [foreign(one.token)]), one.outcome ? badge(known, one.outcome_words) : null, evidence, regime]),
    make("p", {}, explained(one.sentence)), one.more ? make("p", { class: "quiet" }, explained(one.more)) : null,
    ...one.findings.map((text) => make("p", { class: "quiet" }, explained(text)))]);
}

// A click on a layer of the retention map opens its heads below it.
function withHeads(figure, probe) {
  if (figure.name !== "retention") return [drawFigure(figure)];
  const below = make("div", { id: "heads", "aria-live": "polite" });
  const pick = probe.heads && ((column) => below.replaceChildren(drawFigure(headsFigure(figure, probe.heads, column))));
  const section = drawFigure(figure, pick);
  const why = front.run.heads
    ? `The ${front.run.heads} numbers of single heads were left out of this page: they are in the table attention_heads.`
    : probe.heads ? "Click a layer to see its heads." : "This run has no single heads (see --heads).";
  section.append(make("p", { class: "note", text: why }), below);
  return [section];
}

function headsFigure(figure, heads, column) {
  const values = heads.values[column];
  return {
    kind: "heat", name: "heads", title: `Heads of layer ${heads.layers[column]}`, note: heads.note, unit: "share",
    value_title: heads.value_title, blank: heads.blank,
    row_title: "span", rows: heads.spans, column_title: "head", columns: values[0].map((_, head) => String(head)), values, masked: [],
  };
}

// Layers x heads, once for each span.
function headsBySpan(heads) {
  const layers = heads.layers.map((_, at) => heads.layers.length - 1 - at);
  return heads.spans.map((span, at) => ({
    kind: "heat", name: "head_attention", title: `Which heads attend to ${span}`, note: heads.note, unit: "share",
    value_title: heads.value_title, blank: heads.blank, row_title: "layer", rows: layers.map((index) => String(heads.layers[index])),
    column_title: "head", columns: heads.values[0][at].map((_, head) => String(head)), values: layers.map((index) => heads.values[index][at]),
    masked: [],
  }));
}

// Figures of one token each, of which one is shown.
const ONE_OF = { components: "Components", contrast_components: "Against foils", head_attribution: "Heads and MLPs", head_ablation: "Ablations" };

// One of several figures of a kind, chosen by its title.
function chooseOne(figures, label) {
  if (figures.length === 1) return drawFigure(figures[0]);
  const below = make("div", {}, [drawFigure(figures[0])]);
  const choice = make("select", {}, figures.map((figure, index) => make("option", { value: index, text: figure.title })));
  choice.addEventListener("change", () => below.replaceChildren(drawFigure(figures[choice.value])));
  return make("section", {}, [make("label", {}, [`${label}: `, choice]), below]);
}
