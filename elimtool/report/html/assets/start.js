// Show what the address says: all prompts together, or one, which `open` shows at a position.

function address() {
  const parts = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B"));
  const index = parts.has("p") ? front.prompts.findIndex((one) => one.id === parts.get("p")) : -1;
  return { index, position: parts.has("at") ? Number(parts.get("at")) : null, head: parts.get("head") };
}

function start(open, together) {
  document.title = `elimtool: ${front.run.model}`;
  byId("model").textContent = front.run.model;
  byId("facts").textContent = [...front.run.facts, front.run.finished.slice(0, 10)].filter(Boolean).join(" · ");
  startTheme();
  const many = front.prompts.filter((one) => one.of === null).length + front.left_out > 1;
  byId("side").hidden = !many;
  byId("home").textContent = `All ${NOUNS} together`;
  const select = many ? startList(front.prompts, (id) => { location.hash = promptAddress(id); }) : () => {};
  const show = (moved) => {
    hideTip();
    const { index, position, head } = address();
    const chosen = index < 0 && (!many || front.alone) && front.prompts.length ? 0 : index;
    select(chosen);
    byId("home").disabled = chosen < 0;
    if (chosen < 0) together(); else open(chosen, position);
    if (head && chosen < 0 && openHead(head)) return;
    if (!moved) return;
    content.querySelector("h2").focus({ preventScroll: true });
    if (matchMedia("(max-width: 800px)").matches) content.scrollIntoView(); else scrollTo(0, 0);
  };
  byId("home").addEventListener("click", () => { location.hash = ""; });
  addEventListener("hashchange", () => show(true));
  // In a frame without an address of its own a bare #link would leave the page.
  content.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link) return;
    event.preventDefault();
    location.hash = link.getAttribute("href");
  });
  show(false);
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}
