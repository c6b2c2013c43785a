"""Draw a sweep: each variant's score as a cell of a matrix, and what each level of a factor does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from elimtool.files.rows import Row, Rows
from elimtool.report.figures.figure import Estimate, Forest, Heat, Number
from elimtool.report.figures.palette import steps_around_zero
from elimtool.report.figures.words import label
from elimtool.report.populations.sweep.words import (
    SIGNIFICANT,
    differences_in_words,
    number,
    outcome_name,
    p_in_words,
    values_in_words,
)

ROWS, COLUMNS = 60, 24
"""Most rows and columns of a matrix."""
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""Borders between the colours of survival, which lies near 1 as often as near 0."""


def sweep_figures(variants: Rows, effects: Rows) -> list[Any]:
    """Make the figures of a sweep."""
    return [_matrix(variants, effects), *([_levels(effects)] if effects else [])]


def _matrix(variants: Rows, effects: Rows) -> Heat:
    """Set the factor whose levels differ most against all others."""
    factors = [{"template": row["template"], **json.loads(row["factors"])} for row in variants]
    across = _widest(effects)
    columns = list(dict.fromkeys(str(one.get(across, "")) for one in factors)) if across else [""]
    rest = ["/".join(str(v) for k, v in one.items() if k != across and v) for one in factors]
    rows = _best_first(rest, variants)
    shown = rows[:ROWS], columns[:COLUMNS]
    cells = {
        (name, str(one.get(across, "")) if across else ""): row
        for name, one, row in zip(rest, factors, variants, strict=True)
    }
    middle = sum(row["value"] for row in variants) / len(variants)
    yes_no = variants[0]["metric"] == "survives"

    def value(row: Row | None) -> Number:
        return None if row is None else row["value"] if yes_no else row["value"] - middle

    left = [f"{len(rows) - ROWS:,} more rows"] if len(rows) > ROWS else []
    left += [f"{len(columns) - COLUMNS:,} more columns"] if len(columns) > COLUMNS else []
    grid = [[cells.get((name, column)) for column in shown[1]] for name in shown[0]]
    named = outcome_name(variants[0])
    return Heat(
        name="sweep_matrix",
        title=f"Each variant's {named}",
        note="The mean over the same items, the best rows first. How far variants of equal worth would spread"
        f" by chance is said above.{' Not shown: ' + ' and '.join(left) + '.' if left else ''}",
        row_title="variant",
        column_title=across or "",
        rows=[label(name) or "-" for name in shown[0]],
        columns=[label(column) or "-" for column in shown[1]],
        values=[[value(cell) for cell in row] for row in grid],
        unit="share" if yes_no else "logits",
        steps=SHARES if yes_no else steps_around_zero(value(cell) for row in grid for cell in row),
        value_title=named if yes_no else f"{named}, minus the mean of all variants",
        words=[["" if one is None else number(one, one["value"]) for one in row] for row in grid],
        details=[["" if one is None else _detail(one) for one in row] for row in grid],
        blank="there is no such variant",
    )


def _best_first(names: Sequence[str], variants: Rows) -> list[str]:
    """Sort the rows of the matrix by the mean of their variants; equal ones as they come."""
    found: dict[str, list[float]] = {}
    for name, row in zip(names, variants, strict=True):
        found.setdefault(name, []).append(row["value"])
    better = 1 if variants[0]["metric"] == "rank" else -1
    return sorted(found, key=lambda name: better * sum(found[name]) / len(found[name]))


def _widest(effects: Rows) -> str | None:
    """Name the factor whose main effects differ most; of equal ones the first."""
    found: dict[str, list[float]] = {}
    for row in effects:
        found.setdefault(row["factor"], []).append(row["main_effect"])
    return max(found, key=lambda name: max(found[name]) - min(found[name]), default=None)


def _detail(row: Row) -> str:
    told = values_in_words(row, row["value"])
    if row["ci_low"] is not None:
        told += f" ({values_in_words(row, row['ci_low'], row['ci_high'])})"
    return f"{told}, {row['n_items']:,} items, place {row['place']}"


def _levels(effects: Rows) -> Forest:
    yes_no = effects[0]["metric"] == "survives"
    return Forest(
        name="sweep_effects",
        title=f"What each level of a factor does to {outcome_name(effects[0])}",
        note="Its mean minus the mean of all levels, over the same items, with its 95 % interval and Holm's"
        " p-value. Where the dot is filled that is 0.05 at most. The effects of a factor sum to 0: one bad"
        " level lifts the others.",
        label_title="factor and level",
        value_title="share" if yes_no else outcome_name(effects[0]),
        rows=[
            Estimate(
                label(f"{row['factor']}: {row['level']}"),
                row["main_effect"],
                row["ci_low"],
                row["ci_high"],
                _remark(row),
                row["p_adjusted"] is not None and row["p_adjusted"] <= SIGNIFICANT,
            )
            for row in effects
        ],
    )


def _remark(row: Row) -> str:
    told = differences_in_words(row, row["main_effect"])
    if row["ci_low"] is not None:
        told += f" ({number(row, row['ci_low'])} to {number(row, row['ci_high'])})"
    return told if row["p_adjusted"] is None else f"{told}, {p_in_words(row['p_adjusted'])}"
