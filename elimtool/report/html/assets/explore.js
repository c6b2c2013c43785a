// Ask, look, change, look again. The state shown is always the one of the address.

let shown = null; // the last answer
let pinned = null; // an answer to compare with
let place = null; // the probed position that is looked at; null for the last

const FIRST = ["interventions", "ranks", "funnel", "differences", "retention"];
const CHAINED = ["funnel", "differences", "contrast_stages"];

async function show(asked) {
  fillForm(asked);
  endSearch();
  status("asking");
  place = null;
  const found = await ask("trace", { asked }, status);
  if (found.error) return status(said(found), found.error !== "cancelled");
  status(found.done.dropped ? `${whole(found.done.dropped)} earlier states were dropped from memory; going back to one traces it again.` : "");
  draw(found.done);
  return undefined;
}

function draw(state) {
  shown = state;
  front.run = state.run;
  byId("model").textContent = state.run.model;
  byId("facts").textContent = state.run.facts.join(" · ");
  byId("pin").disabled = false;
  const probe = probeOf(state);
  if (state.line.error) {
    content.replaceChildren(make("section", {}, [make("h2", { tabindex: -1 }, [foreign(state.line.name)]), make("p", {}, [badge("error", "error"), " ", foreign(state.line.error)])]));
    return;
  }
  const figures = [...probe.figures].sort((a, b) => orderOf(a) - orderOf(b));
  const chosen = Object.keys(ONE_OF);
  content.replaceChildren(
    make("section", {}, [make("h2", { tabindex: -1 }, [foreign(state.line.name)]), drawTokens(state, probe), drawPlace(state, probe), drawChanges(state), ...(state.line.notes || []).map((text) => make("p", { class: "note" }, [foreign(text)]))]),
    make("section", { id: "verdicts" }, probe.verdicts.map(drawVerdict)),
    make("section", {}, [drawMore(state)]),
    ...(pinned ? [drawPinned(pinned, state)] : []),
    ...figures.filter((one) => one.name === "interventions" || one.name === "ranks").flatMap((figure) => drawOne(figure, probe)),
    make("div", { id: "layer", "aria-live": "polite" }),
    make("div", { id: "sampling", class: "stacked" }, samplingOf(state, probe.figures)),
    ...figures.filter((one) => !CHAINED.includes(one.name) && !["interventions", "ranks", ...chosen].includes(one.name)).flatMap((figure) => drawOne(figure, probe)),
    ...chosen.flatMap((name) => {
      const some = figures.filter((figure) => figure.name === name);
      return some.length ? [chooseOne(some, ONE_OF[name])] : [];
    }),
    ...(state.prompt.grids || []).map(({ figures: some, label }) => chooseOne(some, label)),
    ...state.prompt.figures.map((figure) => drawFigure(figure)),
    make("section", { id: "repeat" }, []));
  drawRepeat(state);
  if (pinned) drawDifferences(pinned, state);
}

const probeOf = (state, at = place) => state.prompt.probes.find((one) => one.position === at) || state.prompt.probes[state.prompt.probes.length - 1] || { figures: [], verdicts: [], tokens: [], position: "", token: "" };

// What can be asked for beside: each takes passes of its own, tells how far it is and can be cancelled.
function drawMore(state) {
  return make("div", { class: "line", id: "beside" }, [
    state.asked.confirm ? make("span", { class: "quiet", text: "The verdicts were tested by ablation, against random components." })
      : make("button", { type: "button", id: "confirm", text: "Test the verdicts by ablation", on: { click: () => go({ ...state.asked, confirm: true }) } }),
    state.fitted || (state.asked.lens || "auto") !== "auto" ? null : make("button", { type: "button", id: "fit", text: "Fit a lens for this model", on: { click: () => fitLens(state.asked) } })]);
}

async function fitLens(asked) {
  const found = await ask("fit", {}, status);
  return found.error ? status(said(found), found.error !== "cancelled") : show(asked);
}

// What was done to the model; all that is shown is of the changed model.
function drawChanges(state) {
  if (!state.changes.length) return null;
  const plain = Object.fromEntries(Object.entries(state.asked).filter(([name]) => !["ablate", "scale", "knockout", "patch"].includes(name)));
  return make("div", { class: "line notice", id: "changed" }, [make("span", {}, ["The model with ", make("b", {}, [foreign(state.changes.join("; "))]), ". All below is of the changed model."]),
    make("button", { type: "button", id: "undo", text: "Without changes", on: { click: () => go(plain) } })]);
}

// Which position is looked at; of a text that the model writes, each step can be.
function drawPlace(state, probe) {
  const { probes } = state.prompt;
  const written = state.asked.generate && !(state.asked.position || "").startsWith("written")
    ? make("button", { type: "button", id: "steps", text: "Step through what it writes", on: { click: () => go({ ...state.asked, position: "written" }) } }) : null;
  if (probes.length < 2) return make("div", { class: "line" }, [make("span", {}, [`Read at position ${probe.position} `, foreign(probe.token)]), written]);
  const at = probes.indexOf(probe);
  const move = (to) => { place = probes[to].position; draw(state); byId("place").focus(); };
  const choice = make("select", { id: "place", on: { change: (event) => move(Number(event.target.value)) } },
    probes.map((one, index) => make("option", { value: index, selected: one === probe, text: `${one.position} ${one.token}` })));
  const step = (by, text, label) => make("button", { type: "button", text, "aria-label": label, disabled: !probes[at + by], on: { click: () => move(at + by) } });
  return make("div", { class: "line" }, [make("label", {}, ["Read at position ", choice, ` of ${whole(probes.length)}`]), step(-1, "‹", "Earlier position"), step(1, "›", "Later position"), written]);
}

const orderOf = (figure) => (FIRST.includes(figure.name) ? FIRST.indexOf(figure.name) : FIRST.length);

const drawOne = (figure, probe) => takeable(figure, probe, figure.name === "ranks" ? [drawFigure(figure, (at) => openLayer(figure.layers[at]))] : withHeads(figure, probe));

// Buttons that save a picture of a figure for print.
function takeable(figure, probe, drawn) {
  if (figure.kind === "listing") return drawn;
  drawn[0].append(make("div", { class: "line tools" }, ["svg", "png"].map((format) => make("button", { type: "button", text: format.toUpperCase(), "aria-label": `Save ${figure.title} as ${format.toUpperCase()}`,
    on: { click: () => take("picture", { position: probe.position, name: figure.name, title: figure.title, format }) } }))));
  return drawn;
}

async function take(path, more) {
  const found = await ask(path, { asked: shown.asked, ...more }, status);
  if (found.error) return status(said(found), true);
  const { name, type, base64 } = found.done;
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const link = make("a", { href: URL.createObjectURL(new Blob([bytes], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  return status(`saved ${name}`);
}

// The prompt's tokens, shaded by the attention that they keep; each opens what can be done with it.
function drawTokens(state, probe) {
  const borders = front.steps.lift;
  const cells = probe.tokens.map((token) => make("button", { type: "button", class: "token", "data-at": token.at,
    style: token.lift === null ? {} : { background: `var(--heat-${stepOf(token.lift, borders)})` , color: ["inherit", "var(--middle)", "var(--paper)"][Math.sign(stepOf(token.lift, borders) - 4) + 1] },
    "aria-label": `Token ${token.at} ${token.text}: ${token.lift === null ? "sink or not visible" : `${spell(token.lift, "lift")} its even share`}`,
    on: { click: (event) => tokenMenu(state, token, event.currentTarget), focus: (event) => tellToken(token, event.currentTarget), pointerenter: (event) => tellToken(token, event.currentTarget), pointerleave: hideTip, blur: hideTip } },
    [foreign(token.text)]));
  return make("div", {}, [make("div", { class: "tokens", role: "group", "aria-label": "Tokens of the prompt, shaded by the attention that they keep" }, cells),
    make("p", { class: "note", text: "Shaded by the attention that each token keeps over all layers, sinks left out: 1x is an even share. Choose a token to read there or to cut it." }),
    make("div", { id: "menu" })]);
}

function tellToken(token, cell) {
  const box = cell.getBoundingClientRect();
  showTip([`token ${token.at} '${token.text}'`, token.lift === null ? "a sink, or not visible from there" : `keeps ${spell(token.lift, "lift")} its even share of attention`, ...meanings({ name: "tokens" })].join("\n"), box.left, box.bottom - 12);
}

function tokenMenu(state, token, cell) {
  hideTip();
  const menu = byId("menu");
  for (const one of content.querySelectorAll(".token")) one.setAttribute("aria-pressed", String(one === cell));
  const text = token.text.trim();
  const knock = `${text}@0-${state.run.layers - 1}`;
  menu.replaceChildren(make("div", { class: "line" }, [make("b", {}, [foreign(token.text)]),
    make("button", { type: "button", id: "read-here", text: "Read here", on: { click: () => go({ ...state.asked, position: String(token.at) }) } }),
    text ? make("button", { type: "button", id: "cut", text: "Cut attention to it", on: { click: () => go({ ...state.asked, knockout: [...(state.asked.knockout || []), knock] }) } }) : null,
    text ? make("button", { type: "button", id: "as-span", text: "Make it a part", on: { click: () => go({ ...state.asked, spans: [...(state.asked.spans || []), `${text.replace(/[^\w-]/g, "") || "part"}=${text}`] }) } }) : null]));
  menu.querySelector("button").focus();
}

const MOST_PARTS = 6;

// The layer's MLP and the heads that write most for or against a target, as they are typed to ablate them.
function partsOf(figures, layer) {
  const bars = figures.flatMap((figure) => figure.bars || []).sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const heads = bars.map((bar) => bar.label).filter((label) => label.startsWith("head ")).map((label) => label.slice(5));
  return [`mlp.${layer}`, ...new Set(heads)].slice(0, MOST_PARTS);
}

async function openLayer(layer) {
  const place = byId("layer");
  const probe = probeOf(shown);
  const found = await ask("layer", { asked: shown.asked, layer, position: probe.position }, () => {}, true);
  if (found.error) return status(said(found), true);
  place.replaceChildren(...found.done.map((figure) => drawFigure(figure)));
  if (layer >= 0) place.append(make("div", { class: "line", id: "parts" }, partsOf(found.done, layer).map((part) => make("button", { type: "button", text: `Ablate ${part}`,
    on: { click: () => go({ ...shown.asked, ablate: [...(shown.asked.ablate || []), part] }) } }))));
  return undefined;
}

// What depends on the chains; drawn again alone where a slider moves.
function samplingOf(state, figures) {
  return [drawChains(state, changeChain, (chain) => findLives(state, chain), chooseMarked(state)), ...figures.filter((one) => CHAINED.includes(one.name)).flatMap((figure) => takeable(figure, probeOf(state), [drawFigure(figure)]))];
}

// The target whose life is marked on the sliders.
let marked = 0;
function chooseMarked(state) {
  const names = probeOf(state).verdicts.map((one) => one.token);
  if (marked >= names.length) marked = 0;
  if (names.length < 2) return foreign(names[0] || "the target");
  return make("select", { "aria-label": "Target that the sliders are marked for", on: { change: (event) => { marked = Number(event.target.value); byId("sampling").replaceChildren(...samplingOf(state, probeOf(state).figures)); } } },
    names.map((name, at) => make("option", { value: at, selected: at === marked, text: name })));
}

// The search of the state that is shown: it ends where another state is asked for, which would wait for it.
let searching = new AbortController();
function endSearch() {
  searching.abort();
  searching = new AbortController();
}

async function findLives(state, chain) {
  const probe = probeOf(state);
  if (!probe.verdicts.length) return null;
  const found = await ask("lives", { asked: state.asked, chain, position: probe.position, target: marked }, () => {}, true, searching);
  return found.done || null;
}

let changing = 0;
async function changeChain(chain, change) {
  changing += 1;
  const own = changing;
  endSearch();
  const found = await ask("chain", { asked: shown.asked, chain, ...change }, () => {}, true);
  if (own !== changing) return undefined;
  if (found.error) return status(said(found), true);
  status("");
  const state = { ...shown, ...found.done };
  if (found.done.prompt) draw(state);
  else {
    for (const one of shown.prompt.probes) {
      const again = found.done.probes.find((other) => other.position === one.position);
      one.verdicts = again.verdicts;
      one.figures = [...one.figures.filter((figure) => !CHAINED.includes(figure.name)), ...again.figures];
    }
    shown = state;
    const probe = probeOf(shown);
    const focused = document.activeElement && document.activeElement.dataset.key;
    byId("verdicts").replaceChildren(...probe.verdicts.map(drawVerdict));
    byId("sampling").replaceChildren(...samplingOf(state, probe.figures));
    for (const one of byId("sampling").querySelectorAll(".holder")) one.draw();
    const again = focused && [...byId("sampling").querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused);
    if (again) again.focus({ preventScroll: true });
    drawRepeat(state);
    if (pinned) {
      const drawn = drawPinned(pinned, state);
      if (byId("pinned")) byId("pinned").replaceWith(drawn); else byId("verdicts").nextElementSibling.after(drawn); // pinned just now
      drawDifferences(pinned, state);
    }
  }
  fillForm(state.asked);
  history.replaceState(null, "", toAddress(state.asked));
  return undefined;
}

// The command and the Python that give the same numbers.
function drawRepeat(state) {
  const block = (label, text) => make("div", {}, [make("div", { class: "line" }, [make("b", { text: label }),
    make("button", { type: "button", text: "Copy", "aria-label": `Copy: ${label}`, on: { click: () => navigator.clipboard.writeText(text).then(() => status("copied"), () => status("the browser does not allow it: select the text", true)) } })]),
    make("pre", { class: "code", tabindex: 0, text })]);
  byId("repeat").replaceChildren(make("h3", { text: "Do the same again" }), block("Command", state.command), block("Python", state.python),
    make("div", { class: "line" }, [make("button", { type: "button", id: "take-report", text: "Save as a report", on: { click: () => take("report", {}) } }),
      make("button", { type: "button", id: "take-run", text: "Save the tables (Parquet)", on: { click: () => take("archive", {}) } })]));
}

// Another state beside this one: what differs, B minus A, as `elimtool compare` tells it, and both side by side.
function drawPinned(a, b) {
  const other = ["prompt", "chat", "system", "prefill"].some((name) => (a.asked[name] || "") !== (b.asked[name] || ""));
  return make("section", { id: "pinned" }, [make("h3", { text: "A, as pinned, and B, this state" }),
    make("div", { class: "line" }, [make("button", { type: "button", text: "Back to A", on: { click: () => go(a.asked) } }), make("button", { type: "button", id: "unpin", text: "Unpin", on: { click: () => { pinned = null; draw(shown); } } })]),
    make("div", { id: "differences", class: "stacked", "aria-live": "polite" }),
    make("div", { id: "beside-a" }, other && place !== null ? [] : pairOf(a, b, place)),
    other ? make("div", { class: "line" }, [make("button", { type: "button", id: "compare", text: "Where the prompts part, layer by layer", on: { click: () => comparePrompts(a, b) } })]) : null,
    make("div", { id: "compared", class: "stacked" })]);
}

// What two states measured, compared by their tables; the last that was asked for is shown.
let comparing = 0;
async function drawDifferences(a, b) {
  comparing += 1;
  const own = comparing, at = place;
  const found = await ask("differences", { a: a.asked, b: b.asked, position: at }, () => {}, true);
  const told = byId("differences");
  if (own !== comparing || !told || found.error === "cancelled") return;
  told.replaceChildren(...(found.error ? [notice(said(found))] : drawCompared(found.done)));
  if (found.error && at !== null) byId("beside-a").replaceChildren();
  if (!found.error && found.done.positions && !byId("beside-a").firstChild) byId("beside-a").replaceChildren(...pairOf(a, b, found.done.positions[0]));
}

function drawCompared({ line, prompt, notes: told }) {
  const own = prompt.probes.flatMap((probe) => [...probe.where.map((text) => make("p", {}, [foreign(text)])), ...probe.verdicts.map(drawVerdict), ...probe.figures.map((figure) => drawFigure(figure))]);
  const texts = line.other ? ["A", "B"].map((side, at) => promptText(`Prompt ${side}`, at ? line.other : line.text, side, line.parts && line.parts[at])) : [];
  return [...texts, ...told.map((text) => make("p", { class: "note" }, [foreign(text)])), ...(line.error ? [make("p", {}, [badge("error", "error"), " ", foreign(line.error)])] : []), ...own];
}

// Both prompts, what one has and the other lacks, and the differences by layer, as `elimtool compare` has them.
async function comparePrompts(a, b) {
  const found = await ask("compare", { a: a.asked, b: b.asked }, status);
  if (found.error) return status(said(found), true);
  status("");
  byId("compared").replaceChildren(...drawCompared(found.done));
  return undefined;
}

// Ranks and chains side by side; `at` is the position of A, which has other tokens where its prompt is another.
const pairOf = (a, b, at) => ["ranks", "funnel"].flatMap((name) => {
  const both = [probeOf(a, at), probeOf(b)].map((probe) => probe.figures.find((figure) => figure.name === name));
  return both.every(Boolean) ? [make("div", { class: "pair" }, both.map((figure, at) => make("div", {}, [make("b", { text: at ? "B" : "A" }), drawFigure(figure)])))] : [];
});

// A state gets an address, and the address shows the state.
function go(asked) {
  const to = toAddress(asked);
  if (to === location.hash) show(asked); else location.hash = to;
}

function startExplore() {
  byId("model").textContent = front.run.model;
  byId("to-run").hidden = !front.opened;
  startTheme();
  offerChoices();
  byId("ask").addEventListener("submit", (event) => { event.preventDefault(); go(readForm()); });
  byId("ask").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); go(readForm()); } });
  byId("cancel").addEventListener("click", () => { if (asking) asking.abort(); });
  byId("pin").addEventListener("click", () => { pinned = structuredClone(shown); status("pinned as A: change something"); });
  addEventListener("hashchange", () => { const asked = fromAddress(location.hash); if (asked) show(asked); });
  content.addEventListener("click", (event) => { if (event.target.closest("a[href^='#']")) event.preventDefault(); });
  const asked = fromAddress(location.hash);
  if (asked) show(asked); else field("prompt").focus();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

startExplore();
