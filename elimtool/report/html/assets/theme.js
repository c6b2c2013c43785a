// System, light or dark; remembered where the browser lets a local file store it.
function startTheme() {
  const names = ["system", "light", "dark"];
  const remember = (name) => { try { localStorage.setItem("elimtool-theme", name); } catch { /* a sandboxed frame */ } };
  const recall = () => { try { return localStorage.getItem("elimtool-theme"); } catch { return null; } };
  const set = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
    byId("theme").textContent = `Theme: ${name}`;
  };
  let current = names.includes(recall()) ? recall() : "system";
  set(current);
  byId("theme").addEventListener("click", () => {
    current = names[(names.indexOf(current) + 1) % names.length];
    set(current);
    remember(current);
  });
}
