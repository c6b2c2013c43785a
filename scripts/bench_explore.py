"""Time what ``elimtool explore`` promises: a moved slider, a large run opened, the memory of a long session.

    python scripts/bench_explore.py [--prompts 20000] [--traces 200]

Prints milliseconds of wall clock and of this process' processors, medians over turns, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from elimtool.cli.repeating import command_of
from elimtool.model.source import ModelSource
from elimtool.report.html.explore import opened_page
from elimtool.run import layout
from elimtool.run.reader import Run, open_run
from elimtool.tasks.explore.answer import answer, resampled
from elimtool.tasks.explore.asked import PageState
from elimtool.tasks.explore.opened import open_any
from elimtool.tasks.explore.states import TracedStates
from elimtool.tasks.trace import trace

PROMPT = "The capital of France is"
TURNS = 20


def timed(name: str, work: Callable[[], Any], turns: int = 1) -> None:
    """Print the median time of some work."""
    walls, own = [], []
    for _ in range(turns):
        wall, process = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        own.append(time.process_time() - process)
    print(
        f"{name:45} {1e3 * statistics.median(walls):8.0f} ms, {1e3 * statistics.median(own):8.0f} ms of CPU"
    )


def memory() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def many(run: Run, directory: Path, count: int) -> None:
    """Write a run of many prompts: copies of another's, under other ids, a part for each copy."""
    own = run.arrow("prompts").num_rows
    copies = max(count // own, 1)
    for name in run.tables:
        (directory / name).mkdir(parents=True)
        table = run.arrow(name)
        at, kind = table.schema.get_field_index("prompt_id"), table.schema.field("prompt_id")
        ids = table.column("prompt_id").to_pylist()
        for copy in range(copies):
            named = pa.array([f"{one}-{copy}" for one in ids]).cast(kind.type)
            pq.write_table(table.set_column(at, kind, named), directory / name / layout.part_name(copy))
    counts = {name: run.arrow(name).num_rows * copies for name in run.tables}
    manifest = run.manifest.model_copy(update={"counts": counts})
    (directory / layout.MANIFEST).write_text(json.dumps(manifest.to_dict()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--traces", type=int, default=200)
    given = parser.parse_args()
    states = TracedStates(ModelSource(), command_of)

    def traced(asked: PageState) -> Any:
        return states.trace(asked, lambda _: None, lambda: None)

    first = PageState(PROMPT, targets=("Paris", "London"))
    traced(first)
    values = iter(range(1, 200))
    timed(
        "a slider of llama.cpp moved",
        lambda: resampled(states, traced(first.with_stage(0, "top_k", next(values)))),
        TURNS,
    )
    prompts = iter(range(100_000))
    timed("another prompt", lambda: answer(states, traced(PageState(f"{PROMPT} {next(prompts)}"))), TURNS)
    before = memory()
    for number in range(given.traces):
        traced(PageState(f"Number {number}: {PROMPT}"))
    print(
        f"{given.traces} more traces: {memory() - before:,.0f} MB more at the peak, {len(states)} states kept"
    )
    model = states.model(print)
    with tempfile.TemporaryDirectory() as folder:
        trace(model, [f"{PROMPT} {number}" for number in range(100)], targets=["Paris"]).save(
            f"{folder}/small"
        )
        many(open_run(f"{folder}/small"), Path(folder, "many"), given.prompts)
        opened = []

        def open_it() -> None:
            opened.append(open_any(Path(folder, "many")))
            opened_page(opened[0].front)

        timed(f"a run of {given.prompts:,} prompts opened", open_it)
        timed("its first prompt opened", lambda: opened[0].prompt(given.prompts // 2))
        timed("another of its prompts", lambda: opened[0].prompt(given.prompts // 3))


if __name__ == "__main__":
    main()
