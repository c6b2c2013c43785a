"use strict";
// Make elements from names, attributes and children. Texts become text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...(children || []).filter(Boolean));
  return node;
}

const make = (tag, attributes, children) => fill(document.createElement(tag), attributes, children);
const shape = (tag, attributes, children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);
const readJson = (id) => JSON.parse(byId(id).textContent);

// A text of the run, which may be right-to-left. Sentences of the report isolate such texts themselves.
const foreign = (text, attributes) => make("bdi", { text, ...attributes });

// A box that scrolls; shaded edges with arrows say where there is more, beside the names that stay in place.
function scrolling(attributes, children) {
  const box = make("div", attributes, children);
  const arrows = { left: "‹", right: "›", up: "⌃", down: "⌄" };
  const shell = make("div", { class: "edges" }, [box,
    ...Object.entries(arrows).map(([side, text]) => make("i", { class: `more ${side}`, "aria-hidden": "true", text }))]);
  const update = () => {
    const [names, head] = [box.querySelector(".heat tbody th"), box.querySelector(".heat thead th")];
    shell.style.setProperty("--left", `${names ? names.offsetWidth : 0}px`);
    shell.style.setProperty("--top", `${head ? head.offsetHeight : 0}px`);
    const [x, y] = [Math.abs(box.scrollLeft), box.scrollTop];
    const hidden = { left: x, right: box.scrollWidth - box.clientWidth - x, up: y, down: box.scrollHeight - box.clientHeight - y };
    for (const [side, pixels] of Object.entries(hidden)) shell.classList.toggle(`more-${side}`, pixels > 1);
  };
  box.addEventListener("scroll", update, { passive: true });
  const sizes = new ResizeObserver(update);
  for (const node of [box, ...box.children]) sizes.observe(node);
  return shell;
}

// Show the tooltip near a point; it is a live region, so screen readers read it out.
function showTip(text, x, y) {
  const tip = byId("tip");
  if (tip.textContent !== text) tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
  const top = y + 18 + height > innerHeight ? y - 10 - height : y + 18;
  tip.style.left = `${Math.max(2, Math.min(left, innerWidth - width - 2))}px`;
  tip.style.top = `${Math.max(2, top)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}
