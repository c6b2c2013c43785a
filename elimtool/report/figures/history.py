"""Plot a number over runs, with its control limits, alarms and change points."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from elimtool.errors import ElimError
from elimtool.report.figures.figure import ControlChart
from elimtool.report.figures.words import SCREEN

if TYPE_CHECKING:
    from elimtool.analysis.query.history import MetricHistory

NOTE = "Bars: 95 % interval over prompts. Change points: paired by prompt against the run before."


def history(found: MetricHistory) -> ControlChart:
    """Plot one series.

    Raises:
        ElimError: The history has a series for each prompt.
    """
    rows = found.rows
    if any(row["prompt_id"] is not None for row in rows):
        raise ElimError("a picture shows one series", "leave `by` out, or write the rows as a table")
    last = rows[-1]
    return ControlChart(
        name="history",
        title=f"{found.asked.metric} over {len(rows)} runs, {rows[0]['n_prompts']:,} prompts",
        note=NOTE,
        runs=[SCREEN.visible(row["label"] or PurePath(row["run"]).name) for row in rows],
        values=[row["value"] for row in rows],
        intervals=[(row["ci_low"], row["ci_high"]) for row in rows],
        limits=None if last["low"] is None else (last["low"], last["centre"], last["high"]),
        beyond=[row["order"] for row in rows if row["beyond"]],
        changed=[row["order"] for row in rows if row["changed"]],
        value_title=found.unit or "mean",
    )
