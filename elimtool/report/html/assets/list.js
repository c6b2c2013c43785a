// The list of prompts: only the rows in view exist, whatever the number of prompts.

const ROW = 60;
const promptAddress = (id) => `#p=${encodeURIComponent(id)}`;

function startList(prompts, open) {
  const controls = (one) => one.of !== null;
  const list = byId("list"), rows = byId("rows");
  const haystack = prompts.map((one) => `${one.id}\n${one.text}\n${one.other}\n${one.target}\n${one.error}`.toLowerCase());
  let shown = prompts.map((_, index) => index);
  let active = 0, selected = -1, drawn = "";

  function draw() {
    const first = Math.max(Math.floor(list.scrollTop / ROW) - 4, 0);
    const last = Math.min(Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4, shown.length);
    const state = [first, last, active, selected, shown.length].join();
    if (state === drawn) return;
    drawn = state;
    rows.style.height = `${shown.length * ROW}px`;
    rows.replaceChildren(...shown.slice(first, last).map((index, at) => entry(index, first + at)));
    const focus = shown.length && active >= first && active < last ? `entry-${shown[active]}` : "";
    list.setAttribute("aria-activedescendant", focus);
  }

  function entry(index, place) {
    const one = prompts[index];
    const status = one.error ? "error" : [one.outcome_words, one.target].filter(Boolean).join(" ");
    return make("div", {
      class: `entry${place === active ? " active" : ""}`, id: `entry-${index}`, role: "option", "data-index": index,
      "aria-selected": String(index === selected), "aria-setsize": shown.length, "aria-posinset": place + 1,
      style: { top: `${place * ROW}px` },
    }, [make("span", {}, [foreign(one.name)]),
      make("small", {}, [foreign([one.ident, one.group, status || "not judged"].filter(Boolean).join(" · "))])]);
  }

  function filter() {
    const words = byId("search").value.toLowerCase().trim();
    const outcome = byId("by-outcome").value, group = byId("by-group").value, tag = byId("by-tag").value, stage = byId("by-stage").value;
    shown = prompts.map((_, index) => index).filter((index) => {
      const one = prompts[index];
      return (outcome === "control" || !controls(one)) && (!words || haystack[index].includes(words)) && (!outcome || one.outcomes.includes(outcome))
        && (!stage || one.stages.includes(stage)) && (!group || one.group === group) && (!tag || one.tags.includes(tag));
    });
    active = 0;
    list.scrollTop = 0;
    drawn = "";
    const all = prompts.filter((one) => !controls(one)).length;
    byId("count").textContent = outcome === "control" ? `${whole(shown.length)} controls`
      : shown.length === all ? `${whole(all)} ${NOUNS}` : `${whole(shown.length)} of ${whole(all)} ${NOUNS}`;
    draw();
  }

  function move(to) {
    active = Math.min(Math.max(to, 0), shown.length - 1);
    if (active * ROW < list.scrollTop) list.scrollTop = active * ROW;
    if ((active + 1) * ROW > list.scrollTop + list.clientHeight) list.scrollTop = (active + 1) * ROW - list.clientHeight;
    draw();
  }

  list.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  new ResizeObserver(draw).observe(list);
  list.addEventListener("click", (event) => {
    const hit = event.target.closest(".entry");
    if (!hit) return;
    active = shown.indexOf(Number(hit.dataset.index));
    open(prompts[shown[active]].id);
  });
  list.addEventListener("keydown", (event) => {
    const page = Math.max(Math.floor(list.clientHeight / ROW) - 1, 1);
    const moves = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: shown.length - 1 };
    if (event.key in moves) move(moves[event.key]);
    else if ((event.key === "Enter" || event.key === " ") && shown.length) open(prompts[shown[active]].id);
    else return;
    event.preventDefault();
  });
  offer("by-outcome", prompts.flatMap((one) => one.outcomes), (name) => name.replaceAll("_", " "));
  offer("by-stage", prompts.flatMap((one) => one.stages));
  offer("by-group", prompts.map((one) => one.group).filter(Boolean));
  offer("by-tag", prompts.flatMap((one) => one.tags));
  byId("search").addEventListener("input", filter);
  for (const id of ["by-outcome", "by-stage", "by-group", "by-tag"]) byId(id).addEventListener("change", filter);
  filter();
  return (index) => {
    selected = index;
    const place = shown.indexOf(index);
    if (place >= 0) move(place); else draw();
  };
}

// The choices of a filter; a filter without any is hidden.
function offer(id, found, word) {
  const names = [...new Set(found)].sort();
  byId(id).append(make("option", { value: "", text: "any" }),
    ...names.map((name) => make("option", { value: name, text: word ? word(name) : name })));
  byId(id).parentNode.hidden = !names.length;
}
