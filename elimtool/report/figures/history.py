"""Plot a number over runs, with its control limits, alarms and change points."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Cell, ControlChart
from elimtool.report.figures.words import SCREEN
from elimtool.report.query.history import heading, told

if TYPE_CHECKING:
    from elimtool.analysis.query.history import MetricHistory

BARS = "Bars: 95 % interval over prompts."
CHANGES = "Change points: paired by prompt against the run before."
SAID = 8
"""Most alarms and changes that a note spells out; the figure marks all."""
COLUMNS = {
    "started": "started",
    "label": "label",
    "revision": "revision",
    "value": "value",
    "ci_low": "95 % from",
    "ci_high": "to",
    "change": "change",
    "change_low": "95 % from",
    "change_high": "to",
    "p_adjusted": "p (adjusted)",
    "low": "lower limit",
    "high": "upper limit",
}
"""Columns of table ``history`` that the table behind the figure has where some run has a value."""


def history(found: MetricHistory) -> ControlChart:
    """Plot one series.

    Raises:
        ElimError: The history has a series for each prompt.
    """
    if any(row["prompt_id"] is not None for row in found.rows):
        raise ElimError(
            "a picture shows one series", "leave `by` out, or write the page (.html) or the rows (.csv)"
        )
    return chart(found, found.rows)


def chart(found: MetricHistory, rows: Rows) -> ControlChart:
    """Plot a series of a history."""
    last = rows[-1]
    limits = None if last["low"] is None else (last["low"], last["centre"], last["high"])
    columns, cells = _table(rows)
    return ControlChart(
        name="history",
        title=f"{found.asked.metric}: {heading(rows, SCREEN)}",
        note=_note(rows, found.limited_by),
        runs=[SCREEN.visible(row["label"] or PurePath(row["run"]).name) for row in rows],
        values=[row["value"] for row in rows],
        # prompts differ by more than runs do: beside limits, bars over prompts would hide what moved
        intervals=[] if limits else [(row["ci_low"], row["ci_high"]) for row in rows],
        limits=limits,
        beyond=[row["order"] for row in rows if row["beyond"]],
        changed=[row["order"] for row in rows if row["changed"]],
        value_title=found.unit or "mean",
        columns=columns,
        rows=cells,
    )


def _note(rows: Rows, made_of: int) -> str:
    """Write what the terminal says as sentences, and how to read the figure."""
    said = [text for text, _ in told(rows, made_of, SCREEN)]
    more = [f"{len(said) - SAID:,} more are marked in the figure"] if len(said) > SAID + 1 else []
    said = [*said[:SAID], *more] if more else said
    sentences = [f"{text[0].upper()}{text[1:]}." for text in said]
    if rows[0]["n_prompts"] > 1:
        sentences += [*([] if made_of else [BARS]), CHANGES]
    return " ".join(sentences)


def _table(rows: Rows) -> tuple[list[str], list[list[Cell]]]:
    names = [name for name in COLUMNS if any(row[name] is not None for row in rows)]
    cells: list[list[Cell]] = [
        [SCREEN.visible(row["run"]), *(_cell(row[name]) for name in names), _remark(row)] for row in rows
    ]
    return ["run", *(COLUMNS[name] for name in names), "remark"], cells


def _cell(value: str | float | None) -> str:
    if value is None:
        return "–"
    return SCREEN.visible(value) if isinstance(value, str) else f"{value:.6g}"


def _remark(row: Row) -> str:
    remarks = {"beyond": "out of its limits", "changed": "change point"}
    return ", ".join(text for name, text in remarks.items() if row[name])
