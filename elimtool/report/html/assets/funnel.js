// Sampler chains side by side: stages in order, and what was cut greyed in place.

function drawFunnel(figure) {
  const vocabulary = Math.max(2, ...figure.chains.flatMap((chain) => chain.stages.map((stage) => stage.before)));
  return [make("div", { class: "chains", "data-figure": figure.name },
    figure.chains.map((chain) => drawChain(figure, chain, vocabulary)))];
}

function drawChain(figure, chain, vocabulary) {
  const by = chain.engine && chain.engine !== chain.name ? ` (${chain.engine})` : "";
  const stages = chain.stages.map((stage) => drawStage(stage, vocabulary));
  const fates = chain.fates.map(drawFate);
  const told = new Map([...stages.map((item, at) => [item, tellStage(figure, chain.stages[at])]), ...fates.map((item, at) => [item, tellFate(figure, chain.fates[at])])]);
  return tellItems(make("article", { class: "chain", "aria-label": `${chain.name + by}. Up and down arrow keys move from stage to stage.` }, [make("h3", {}, [foreign(chain.name + by)]),
    make("h4", { text: "Stages" }), make("ol", {}, stages),
    fates.length ? make("h4", { text: "Followed tokens, by rank" }) : null, make("ol", {}, fates)]), told);
}

const tellStage = (figure, stage) => [stage.active ? `${stage.label}: ${whole(stage.before)} tokens before, ${whole(stage.after)} after, ${spell(stage.pruned, "share")} of the probability cut` : `${stage.label}: off`,
  ...(stage.active ? meanings(figure, ["tokens before", "tokens after", "cut"]) : [])].join("\n");

const tellFate = (figure, fate) => [`${fate.token}: ${fate.rank === null ? "" : `rank ${whole(fate.rank)}, `}p ${spell(fate.before, "prob")} before, ${fate.after === null ? "cut" : `${spell(fate.after, "prob")} after`}`,
  ...(fate.cut ? [fate.cut] : []), ...meanings(figure, ["rank", "p before", "p after", ...(fate.cut ? ["margin"] : [])])].join("\n");

function drawStage(stage, vocabulary) {
  const size = (count) => `${(100 * Math.log(count + 1)) / Math.log(vocabulary + 1)}%`;
  const kept = stage.before === stage.after;
  const told = !stage.active ? "off" : kept ? `${whole(stage.after)} kept` : `${whole(stage.before)} → ${whole(stage.after)}`;
  const line = make("div", { class: "row" }, [make("span", { text: stage.label }), make("span", { text: told })]);
  if (!stage.active) return make("li", { class: "off" }, [line]);
  const track = make("div", { class: "track", "aria-hidden": "true" }, [
    make("div", { class: "fill cut", style: { width: size(stage.before) } }),
    make("div", { class: "fill", style: { width: size(stage.after) } })]);
  const cut = kept ? null : make("div", { class: "quiet", text: `cuts ${spell(stage.pruned, "share")} of the probability` });
  return make("li", {}, [line, track, cut, ...stage.notes.map((note) => make("div", { class: "quiet", text: note }))]);
}

function drawFate(fate) {
  const rank = fate.rank === null ? "" : `${whole(fate.rank)}. `;
  const left = make("span", {}, [document.createTextNode(rank), make("b", {}, [foreign(fate.token)])]);
  const gone = fate.after === null;
  const right = gone ? spell(fate.before, "prob") : `${spell(fate.before, "prob")} → ${spell(fate.after, "prob")}`;
  return make("li", { class: gone ? "gone" : null }, [
    make("div", { class: "row" }, [left, make("span", { text: `p ${right}` })]),
    gone && fate.cut ? make("div", { text: fate.cut }) : null, gone && fate.why ? make("div", { text: fate.why }) : null]);
}
