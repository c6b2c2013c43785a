// Texts of the page whose contrast to what is behind them is below 4.5 to 1 (WCAG AA).
const rgba = (text) => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = (c) => { const v = c.slice(0, 3).map((x) => x / 255)
  .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
const behind = (node) => { for (let n = node; n; n = n.parentElement) {
  const c = rgba(getComputedStyle(n).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
const low = [];
for (const node of document.querySelectorAll("body *")) {
  if (![...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim())) continue;
  const style = getComputedStyle(node);
  if (parseFloat(style.fontSize) === 0 || !node.getClientRects().length || node.closest("script, option")) continue;
  const ink = rgba(node instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [light(ink), light(behind(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(`${node.tagName}.${node.className} ${node.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
}
return low;
