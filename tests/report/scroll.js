// Milliseconds of each frame while the list of prompts is scrolled from end to end.
const done = arguments[0],
  list = document.getElementById("list"), times = [];
const step = list.scrollHeight / 60;
let last = performance.now();
function frame(now) {
  times.push(now - last);
  last = now;
  list.scrollTop += step;
  if (times.length < 70) requestAnimationFrame(frame); else setTimeout(() => done(times.slice(2)), 100);
}
requestAnimationFrame(frame);
