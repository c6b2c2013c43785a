"""Runs over months: one synthetic run, saved often with other dates, labels and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from elimtool.run.reader import Run
from tests.report.runs import france


def moved(run: Run, day: int, shift: float, **facts: object) -> Run:
    """The run of another day, its joint log-probabilities lower by ``shift``."""
    started = f"2026-01-{day + 1:02d}T00:00:00Z"
    table = run.arrow("survival")
    at = table.column_names.index("target_logprob")
    values = pc.subtract(table.column("target_logprob"), pa.scalar(shift))
    tables = {name: run.arrow(name) for name in run.tables}
    tables["survival"] = table.set_column(at, table.schema.field(at), values)
    return Run.from_tables(run.manifest.model_copy(update={"started": started, **facts}), tables)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Sequence[float]], Path]:
    """``save(shifts)`` -> a folder of runs, a day apart, each lower by its shift."""

    def written(shifts: Sequence[float]) -> Path:
        run = france()
        for day, shift in enumerate(shifts):
            label = f"week {day}" if day else None
            moved(run, day, shift, label=label).save(tmp_path / "runs" / f"r{day:02d}")
        return tmp_path / "runs"

    return written
