// The form: what is asked, and asking it. Answers come line by line, so that progress is seen and can be cancelled.

const WRITTEN_LINES = ["targets", "foils", "spans", "samplers", "ablate", "scale", "knockout", "patch"];
const TEXTS = ["system", "prefill", "position", "json_schema", "regex", "against"];
const OFFERED = { grammar: "grammars", amateur: "amateurs" }; // named when the server was started
const field = (name) => byId(`ask-${name}`);

// Only what differs from the defaults is asked, so that addresses stay short.
function readForm() {
  const asked = { prompt: field("prompt").value };
  for (const name of SWITCHED) if (field(name).checked) asked[name] = true;
  for (const name of WRITTEN_LINES) {
    const lines = field(name).value.split("\n").filter((line) => line.trim());
    if (lines.length) asked[name] = lines;
  }
  for (const name of TEXTS) if (field(name).value) asked[name] = field(name).value;
  for (const name of ["generate", "seed"]) if (field(name).value && Number(field(name).value)) asked[name] = Number(field(name).value);
  if (field("lens").value !== "auto") asked.lens = field("lens").value;
  for (const name of Object.keys(OFFERED)) if (field(name).value) asked[name] = field(name).value;
  return asked;
}

function fillForm(asked) {
  field("prompt").value = asked.prompt;
  for (const name of SWITCHED) field(name).checked = Boolean(asked[name]);
  for (const name of WRITTEN_LINES) field(name).value = (asked[name] || []).join("\n");
  for (const name of TEXTS) field(name).value = asked[name] || "";
  for (const name of ["generate", "seed"]) field(name).value = asked[name] || "";
  field("lens").value = asked.lens || "auto";
  for (const name of Object.keys(OFFERED)) field(name).value = asked[name] || "";
  for (const [id, names] of [["changes", ["ablate", "scale", "knockout", "patch"]], ["chosen", ["samplers", "grammar", "json_schema", "regex", "against", "amateur"]]])
    if (names.some((name) => asked[name])) byId(id).open = true;
}

// Choices of the form; a field for files that were not named at the start is hidden.
function offerChoices() {
  field("lens").append(...front.offered.lenses.map((name) => make("option", { value: name, text: name })));
  for (const [name, kind] of Object.entries(OFFERED)) {
    field(name).append(make("option", { value: "", text: "none" }), ...front.offered[kind].map((one) => make("option", { value: one, text: one })));
    field(name).parentNode.hidden = !front.offered[kind].length;
  }
  field("patch").parentNode.hidden = !front.offered.recordings.length;
  field("patch").placeholder = front.offered.recordings.map((one) => `${one}@residual.9`).join("\n");
}

let asking = null;

// Send a request and give each line of the answer to `told`; the last is what was done or what was wrong.
// One that is quiet leaves Cancel alone; `control` ends it where the page does not want it any more.
async function ask(path, given, told, quiet, control = new AbortController()) {
  if (!quiet) {
    if (asking) asking.abort();
    asking = control;
    byId("cancel").hidden = false;
  }
  try {
    const answer = await fetch(`api/${path}`, { method: "POST", signal: control.signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(given) });
    if (!answer.body || answer.headers.get("content-type").startsWith("text/plain")) return { error: await answer.text(), hint: "" };
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      held += value || "";
      const lines = held.split("\n");
      held = done ? "" : lines.pop();
      for (const line of lines.filter(Boolean)) {
        const message = JSON.parse(line);
        if (message.say) told(message.say);
        if ("done" in message || "error" in message) return message;
      }
      if (done) return { error: "the server ended before it had answered", hint: "start elimtool explore again" };
    }
  } catch (error) {
    if (error.name === "AbortError") return { error: "cancelled", hint: "" };
    return { error: "the server does not answer", hint: "start elimtool explore again; this page keeps what it shows" };
  } finally {
    if (asking === control) {
      asking = null;
      byId("cancel").hidden = true;
    }
  }
}

function status(text, wrong) {
  byId("status").textContent = text;
  byId("status").classList.toggle("wrong", Boolean(wrong));
}

const said = (message) => [message.error, message.hint].filter(Boolean).join(": ");
