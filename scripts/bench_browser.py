"""Time ``elimtool explore`` in a browser: a slider moved, a large run or comparison opened and scrolled.

    python scripts/bench_browser.py [--prompts 20000] [--turns 20]

Needs Debian's chromium and chromium-driver, and selenium. The server is a process of its own, as a user
starts it, with the default model. Prints medians in milliseconds as the page itself saw them: from the event
to the frame after the one that shows the change.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from bench_explore import PROMPT, many

from elimtool.model.source import ModelSource
from elimtool.run.comparison import Comparison
from elimtool.run.reader import open_run
from elimtool.tasks.compare.asked import Controls
from elimtool.tasks.compare.prompts import compare_prompts
from elimtool.tasks.trace import trace

sys.path.append(str(Path(__file__).parents[1]))
from tests.report.browser import Page, chromium

DONE = "return document.querySelector('#repeat pre') && !document.querySelector('#status').textContent"
MOVED = """
const [label, value, done] = arguments;
const slider = document.querySelector(`input[aria-label="${label}"]`);
const began = performance.now(), before = location.hash;
slider.value = value;
slider.dispatchEvent(new Event('input'));
const look = () => (location.hash === before ? requestAnimationFrame(look)
  : requestAnimationFrame(() => done(performance.now() - began)));
look();
"""
ANSWERED = """
window.answered = []; const asked = ask;
ask = async (path, ...more) => { const began = performance.now(); const found = await asked(path, ...more);
  if (path === 'chain') answered.push(performance.now() - began); return found; };
"""
OPENED = """
const [hash, shown, done] = arguments;
const began = performance.now();
location.hash = hash;
const look = () => (document.querySelector(`main ${shown}`) && !document.querySelector('main .old')
  ? requestAnimationFrame(() => done(performance.now() - began)) : requestAnimationFrame(look));
for (const one of document.querySelector('main').children) one.classList.add('old');
look();
"""
SCROLLED = """
const [done] = arguments, list = document.getElementById('list'), began = performance.now();
let frames = 0;
const step = () => { list.scrollTop += 997; frames += 1;
  if (frames < 120) requestAnimationFrame(step); else done((performance.now() - began) / frames); };
requestAnimationFrame(step);
"""


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Serve ``elimtool explore`` in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    line = ["explore", *arguments, "--no-browser", "--port", str(port), "--token", token, "-q"]
    process = subprocess.Popen([sys.executable, "-m", "elimtool", *line])
    address = f"http://127.0.0.1:{port}/{token}/"
    try:
        for _ in range(1200):
            try:
                urllib.request.urlopen(address).read()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


class Live(Page):
    """A page of a server."""

    def go(self, address: str) -> Live:
        """Load an address afresh, and wait until the page is ready."""
        self.driver.get("about:blank")
        self.driver.get(address)
        self.wait("return document.documentElement.dataset.ready", 60)
        return self

    def timed(self, script: str, *arguments: Any) -> float:
        """Return what a script tells when it is done, ms."""
        return float(self.driver.execute_async_script(script, *arguments))


def told(name: str, values: list[float]) -> None:
    """Print the median of some times."""
    print(f"{name:52} {statistics.median(values):8.0f} ms (median of {len(values)}; most {max(values):.0f})")


def sliders(page: Live, address: str, turns: int) -> None:
    """Time a slider of the first of three chains, two targets."""
    page.go(f"{address}#prompt={PROMPT.replace(' ', '+')}&targets=Paris&targets=London")
    page.wait(DONE, 120)
    pause = float(page.run("return PAUSE"))
    page.run(ANSWERED)
    values = []
    for value in range(turns + 1):
        label = page.one("input[type=range][aria-label^='top_k of llama.cpp']").get_attribute("aria-label")
        values.append(page.timed(MOVED, label, 10 + value) - pause)
    told("a slider moved: answered", page.run("return answered")[1:])  # the first compiles
    told(f"a slider moved: drawn, after its pause of {pause:.0f} ms", values[1:])


def opened(page: Live, address: str, ids: list[str], noun: str, turns: int) -> None:
    """Time a large run or comparison: its page, scrolling its list, its first prompt, others."""
    with urllib.request.urlopen(f"{address}run") as answer:
        size = len(answer.read())
    loaded = "return Number(document.documentElement.dataset.ready)"
    ready = [float(page.go(f"{address}run").run(loaded)) for _ in range(5)]
    print(f"{f'size of the page of {len(ids):,} {noun}s':52} {size / 1e6:8.1f} MB")
    told(f"{len(ids):,} {noun}s: the page is ready", ready)
    told("a frame while its list is scrolled", [page.timed(SCROLLED) for _ in range(3)])
    step = len(ids) // (turns + 2)
    chosen = [f"#p={ids[step * one + 1]}" for one in range(turns + 1)]
    first, *others = [page.timed(OPENED, where, "[data-figure]") for where in chosen]
    told(f"its first {noun} opened", [first])
    told(f"another {noun} of it", others)


def many_pairs(found: Comparison, count: int) -> Comparison:
    """Repeat the pair of a comparison under other ids."""
    ids, tables = names(count, "pair"), {}
    for name, table in found.tables.items():
        tables[name] = table
        if "pair_id" in table.column_names:
            copies = pa.concat_tables([table] * count).combine_chunks()
            at = copies.schema.get_field_index("pair_id")
            kind = copies.schema.field(at)
            own = pa.array([one for one in ids for _ in range(table.num_rows)])
            tables[name] = copies.set_column(at, kind, own.cast(kind.type))
    return Comparison.of(found.kind, found.a, found.b, tables)


def names(count: int, noun: str) -> list[str]:
    """Ids of so many prompts or pairs."""
    return [f"{noun}-{number:05}" for number in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=20)
    given = parser.parse_args()
    model = ModelSource().load(None)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prompts = [f"{PROMPT} {number}" for number in range(100)]
        trace(model, prompts, targets=["Paris"]).save(folder / "small")
        many(open_run(folder / "small"), folder / "many", given.prompts)
        pair = compare_prompts(
            model, PROMPT, "The capital of Spain is", targets=["Paris", "Madrid"], controls=Controls(count=0)
        )
        many_pairs(pair, given.prompts).save(folder / "pairs")
        del model, pair
        run_ids = [one.as_py() for one in open_run(folder / "many").arrow("prompts").column("prompt_id")]
        with chromium(folder / "profile") as driver:
            driver.set_script_timeout(120)
            page = Live(driver, Path())
            with serving(str(folder / "many")) as address:
                sliders(page, address, given.turns)
                opened(page, address, run_ids, "prompt", given.turns)
            with serving(str(folder / "pairs")) as address:
                opened(page, address, names(given.prompts, "pair"), "pair", given.turns)


if __name__ == "__main__":
    main()
