// A state of the page as its address, so that Back, links and bookmarks work.

const LISTS = ["targets", "foils", "spans", "samplers", "ablate", "scale", "knockout", "patch"];
const NUMBERED = ["generate", "seed"];
const SWITCHED = ["chat", "confirm"];

function toAddress(asked) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) for (const one of LISTS.includes(name) ? value : [value]) parts.append(name, String(one));
  return `#${parts}`;
}

function fromAddress(hash) {
  const parts = new URLSearchParams(hash.slice(1));
  if (!parts.has("prompt")) return null;
  const asked = {};
  for (const name of new Set(parts.keys())) {
    if (LISTS.includes(name)) asked[name] = parts.getAll(name);
    else if (NUMBERED.includes(name)) asked[name] = Number(parts.get(name));
    else asked[name] = SWITCHED.includes(name) ? parts.get(name) === "true" : parts.get(name);
  }
  return asked;
}
