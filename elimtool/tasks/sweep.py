"""Search the wordings of a suite for the best and the worst with few prompts: ``elimtool sweep --budget``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from elimtool.analysis.populations.sweep.api import SweepOptions, searched_sweep
from elimtool.analysis.populations.sweep.grid import (
    SweepCells,
    SweepGrid,
    Variant,
    outcomes,
    place_of,
    refuse_few,
)
from elimtool.analysis.populations.sweep.search import search
from elimtool.analysis.statistics.base import SEARCHES, Values, generator
from elimtool.engine.intake import fingerprint
from elimtool.engine.options import TraceOptions
from elimtool.engine.session import Session
from elimtool.errors import ElimError
from elimtool.files.rows import Row
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt
from elimtool.run import Run
from elimtool.run.analysis import Analysis
from elimtool.run.manifest import utc_now
from elimtool.tasks.searched import KeptPieces
from elimtool.tasks.trace import traced

PIECE = 4
"""Passes in a piece that is measured and kept together."""


@exclusive
def search_sweep(
    model: Model,
    prompts: Sequence[Prompt],
    wanted: TraceOptions,
    options: SweepOptions,
    *,
    kind: str,
    budget: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
    keep: KeptPieces | None = None,
) -> tuple[Run, Analysis]:
    """Measure as many prompts of a sweep as a search asks for.

    Args:
        model: The model.
        prompts: All prompts, with their targets.
        wanted: What to measure of each.
        options: What is scored.
        kind: ``halving`` or ``thompson``.
        budget: Most outcomes that are measured.
        seed: Seed of the order of items, of the search, and of intervals.
        say: Called with a line of text while it goes on.
        keep: Keeps what is measured on the way, and has what an earlier search measured.

    Returns:
        The run of all prompts that were measured, and what was found.

    Raises:
        ElimError: The budget is too small, a prompt cannot be used, or there are not two variants of two
            items (exit code 5).
    """
    cells: SweepCells[Prompt] = SweepCells()
    for one in prompts:
        if one.targets and (place := place_of(_row(one), ())) is not None:
            cells.add(place, one)
    variants, items = cells.whole()
    refuse_few(len(variants), len(items))
    items = [items[index] for index in generator(seed, SEARCHES).permutation(len(items))]
    most = min(budget, len(variants) * len(items))
    measured = _Searched(Session(model, wanted), cells, options, most, say, keep)

    def score(arms: NDArray[np.intp], start: int, stop: int) -> Values:
        keys = [[(variants[arm], item) for item in items[start:stop]] for arm in arms.tolist()]
        return measured.scored(keys)

    larger = -1 if options.outcome == "rank" else 1
    found = search(kind, score, len(variants), len(items), budget, larger, seed)
    used = sum(len(cells.there[variant, item]) for variant in variants for item in items)
    left = len(prompts) - used
    notes = [f"{left:,} prompts have no item, no target or no partner and are left out."] if left else []
    grid = SweepGrid(
        options.outcome,
        measured.chain,
        found.values,
        tuple(variants),
        tuple(items),
        found.n_calls,
        tuple(notes),
    )
    run = measured.run()
    return run, searched_sweep(run, grid, found, kind, budget, options, seed)


def _row(prompt: Prompt) -> Row:
    """What the table ``prompts`` will say about where a prompt stands."""
    one = prompt.design
    own = {"template": one.template, "filler": one.filler, "role": one.role, "group": prompt.group}
    return {"prompt_id": prompt.id, "slots": json.dumps(dict(one.slots)), "status": "ok", **own}


@dataclass
class _Searched:
    """Measures cells when they are asked for, and remembers what was measured."""

    session: Session
    cells: SweepCells[Prompt]
    options: SweepOptions
    most: int
    say: Callable[[str], None]
    keep: KeptPieces | None = None
    chain: str | None = None
    done: int = 0
    asked: list[Prompt] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    started: str = field(default_factory=utc_now)

    def scored(self, keys: Sequence[Sequence[tuple[Variant, str]]]) -> Values:
        """Measure the prompts of some cells.

        Args:
            keys: [variants][items] variant and item.

        Returns:
            [variants, items] outcomes.

        Raises:
            ElimError: A prompt cannot be used, or has no outcome.
        """
        flat = [(key, one) for row in keys for key in row for one in self.cells.there[key]]
        found: dict[tuple[Variant, str], list[float]] = {}
        size = PIECE * self.session.options.batch_size
        for start in range(0, len(flat), size):
            piece = flat[start : start + size]
            for (key, _), value in zip(piece, self._values([one for _, one in piece]), strict=True):
                found.setdefault(key, []).append(value)
            self.say(f"searching: {self.done + len(found):,} of {self.most:,} outcomes")
        self.done += len(found)
        return np.array([[np.mean(found[key]) for key in row] for row in keys])

    def _values(self, prompts: list[Prompt]) -> list[float]:
        """Measure some prompts, or read what was measured of them, and return the outcome of each."""
        found = self.session.encode_all(prompts)
        encoded = [one for one in found if isinstance(one, Encoded)]

        def measure() -> Run:
            return traced(self.session, prompts, found)

        facts = self.session.manifest(self.started, encoded, prompts_sha256=fingerprint(prompts))
        run = measure() if self.keep is None else self.keep.piece(facts, measure)
        values, self.chain = outcomes(run, self.options.outcome, self.options.chain)
        ids = run.arrow("prompts").column("prompt_id").to_pylist()
        if lost := [one for one in ids if one not in values]:
            raise ElimError(
                f"prompt '{lost[0]}' has no {self.options.outcome}", "leave `budget` out: it is left out then"
            )
        self.asked += prompts
        self.encoded += encoded
        self.runs.append(run)
        return [values[one] for one in ids]

    def run(self) -> Run:
        """Join all that was measured into one run."""
        manifest = self.session.manifest(self.started, self.encoded, prompts_sha256=fingerprint(self.asked))
        tables = {
            name: pa.concat_tables([one.arrow(name) for one in self.runs]) for name in self.runs[0].tables
        }
        return Run.from_tables(manifest, tables)
