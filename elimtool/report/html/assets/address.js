// A state of the page as its address, so that Back, links and bookmarks work.

const LISTS = ["targets", "foils", "spans", "samplers", "ablate", "scale", "knockout"];
const NUMBERED = ["generate", "seed"];

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
    else asked[name] = name === "chat" ? parts.get(name) === "true" : parts.get(name);
  }
  return asked;
}
