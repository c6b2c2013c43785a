// Sampler chains to play with: a slider for each stage's main parameter, on which it is marked where a target lives.

const opened = new Set(); // chains whose stages that are off are shown
const PAUSE = 40; // ms without a move after which a chain runs again

function drawChains(state, change, lives, target) {
  return make("section", { id: "sliders", "aria-label": "Change the samplers" }, [make("h3", { text: "Change the samplers" }),
    make("p", { class: "note" }, ["The model's output is kept: no pass is run again. At the coloured values of a slider ", target, " survives the whole chain, all else as it is."]),
    make("div", { class: "chains" }, state.chains.map((chain, at) => drawSliders(state, chain, at, change, lives)))]);
}

function drawSliders(state, chain, at, change, lives) {
  const rows = chain.stages.map((stage, place) => drawSlider(chain, at, stage, place, change));
  const off = rows.filter((_, place) => !chain.stages[place].on);
  const key = `${at}`;
  const own = chain.own ? "Your own chain: its stages run in this order." : `Moving a stage makes it your own chain, written out below: ${chain.engine} itself runs its stages in this order.`;
  const rest = off.length ? make("details", { open: opened.has(key) }, [make("summary", { text: `${off.length} stages that are off` }), make("ol", { class: "stages" }, off)]) : null;
  if (rest) rest.addEventListener("toggle", () => { if (rest.open) opened.add(key); else opened.delete(key); });
  const box = make("article", { class: "chain" }, [make("h4", {}, [foreign(chain.name)]), make("p", { class: "quiet", text: own }),
    make("ol", { class: "stages" }, rows.filter((_, place) => chain.stages[place].on)), rest]);
  lives(at).then((found) => {
    if (!found) return;
    chain.stages.forEach((stage, place) => { if (found[stage.name]) markLives(rows[place], stage, found[stage.name]); });
  });
  return box;
}

function drawSlider(chain, at, stage, place, change) {
  const mover = !stage.on ? null : make("span", { class: "move" }, [-1, 1].map((step) => make("button", {
    type: "button", "aria-label": `Move ${stage.name} of ${chain.name} ${step < 0 ? "up" : "down"}`, "data-key": `${at} ${stage.name} ${step}`, text: step < 0 ? "↑" : "↓",
    disabled: !chain.stages.some((one, other) => one.on && (other - place) * step > 0), on: { click: () => change(at, { order: moved(chain.stages, place, step) }) } })));
  const tell = (event) => { const box = event.currentTarget.getBoundingClientRect(); if (stage.told) showTip(`${stage.name}\n${stage.told}`, box.left, box.bottom); };
  const telling = { pointerenter: tell, pointerleave: hideTip, focus: tell, blur: hideTip, keydown: (event) => { if (event.key === "Escape") hideTip(); } };
  const name = make("span", { class: "name", text: stage.name, tabindex: stage.value === null ? 0 : null, on: telling });
  if (stage.value === null) return make("li", {}, [make("div", { class: "row" }, [name, mover])]);
  const [low, high, step] = stage.range || [null, null, "any"];
  const number = make("input", { type: "number", value: stage.value, min: low, step: "any", "aria-label": `${stage.name} of ${chain.name}`, "data-key": `${at} ${stage.name} number`, on: telling });
  const slider = stage.range && make("input", { type: "range", value: stage.value, min: low, max: high, step, "aria-label": `${stage.name} of ${chain.name}, slider`, "data-key": `${at} ${stage.name} slider` });
  let timer = null;
  const send = (value) => {
    clearTimeout(timer);
    timer = setTimeout(() => { if (Number.isFinite(value)) change(at, { stage: stage.name, value }); }, PAUSE);
  };
  number.addEventListener("change", () => { if (slider) slider.value = number.value; send(number.valueAsNumber); });
  if (slider) slider.addEventListener("input", () => { number.value = slider.value; send(slider.valueAsNumber); });
  return make("li", { class: stage.on ? null : "off", "data-stage": stage.name }, [make("div", { class: "row" }, [name, number, mover]),
    slider ? make("div", { class: "slide" }, [make("div", { class: "lives", "aria-hidden": "true" }), slider, make("p", { class: "quiet" })]) : null]);
}

// The names of stages with one moved before or behind the next one that is on.
function moved(stages, place, step) {
  const names = stages.map((one) => one.name);
  let to = place + step;
  while (!stages[to].on) to += step;
  names.splice(to, 0, ...names.splice(place, 1));
  return names;
}

// Where on a slider a target survives its whole chain, in colour and in words.
function markLives(row, stage, ranges) {
  const slide = row.querySelector(".slide");
  if (!slide) return;
  const [low, high] = stage.range;
  const part = (value) => `${(100 * (value - low)) / (high - low)}%`;
  slide.querySelector(".lives").replaceChildren(...ranges.map(([from, to]) => make("i", { style: { left: part(from), width: `calc(${part(to)} - ${part(from)})` } })));
  const edge = (value) => digits(value, 4);
  const told = ranges.map(([from, to]) => (from === to ? edge(from) : from <= low && to >= high ? "any value" : from <= low ? `${edge(low)} to ${edge(to)}` : to >= high ? `${edge(from)} to ${edge(high)}` : `${edge(from)} to ${edge(to)}`));
  slide.querySelector("p").textContent = ranges.length ? `kept at ${told.join(", ")}` : "no value of it keeps the target";
}
