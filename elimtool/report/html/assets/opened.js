// A finished run of any size: its list first, and each prompt when it is opened.

async function fetched(path) {
  try {
    const answer = await fetch(path);
    return answer.headers.get("content-type").startsWith("application/json") ? await answer.json() : { error: await answer.text() };
  } catch {
    return { error: "the server does not answer: start elimtool explore again" };
  }
}

let opening = 0;
async function openPrompt(index, position) {
  opening += 1;
  const own = opening;
  const found = await fetched(`api/prompt/${index}`);
  if (own !== opening) return undefined; // another one was chosen meanwhile
  if (found.error) return content.replaceChildren(notice(found.error));
  Object.assign(front.prompts[index], found.line);
  showPrompt(index, position, found.prompt);
  if (found.asked) content.firstElementChild.append(make("p", {}, [make("a", { class: "leave", href: `./${toAddress(found.asked)}`, text: "Ask the model about this prompt" })]));
  return undefined;
}

async function openTogether() {
  content.replaceChildren(make("h2", { text: front.together, tabindex: -1 }), notice("reading"));
  opening += 1;
  const own = opening;
  const found = await fetched("api/together");
  if (own !== opening) return undefined;
  if (found.error) return content.replaceChildren(notice(found.error));
  Object.assign(front, found);
  return showRun();
}

start(openPrompt, openTogether);
