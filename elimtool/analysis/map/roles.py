"""Score the roles of heads, each beside its null."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from elimtool.analysis.map.sums import CONTROL, REPEATS, TEXT, Array, Sums
from elimtool.analysis.map.units import FEWEST_ROWS, exceeds, interval, seen
from elimtool.files.rows import Row, Rows

PRESENT = 0.1
"""How far the lower end of a role's interval is to be over its null."""
CERTAIN = 0.05
"""Largest q of a role that is present."""
MOSTLY = 0.5
"""Share of queries that a dormant head's interval is to be over."""
CHANCE = 0.01
"""Share of values whose token is among the first, or last, 10 of 1,000 by chance."""


@dataclass(frozen=True)
class RoleScores:
    """One role's scores by unit, and those of its null.

    Attributes:
        role: Its name.
        probe: What it was measured on.
        values: [units, layers, heads], NaN where too few rows count.
        null: Likewise, unit by unit; ``None`` for a role without a null.
    """

    role: str
    probe: str
    values: Array
    null: Array | None


def roles(sums: Sums) -> dict[str, Rows]:
    """Make the rows of ``head_roles``."""
    return {"head_roles": [row for one in measured(sums) for row in _rows(one, sums)]}


def measured(sums: Sums) -> Iterator[RoleScores]:
    """Yield each role's scores."""
    yield RoleScores("previous", "repeats", _mean(sums, "previous", REPEATS), _mean(sums, "far", REPEATS))
    for role in ("duplicate", "induction"):
        yield RoleScores(role, "repeats", _mean(sums, role, REPEATS), _controls(sums, role))
    yield RoleScores("sink", "text", _mean(sums, "sink", TEXT), _mean(sums, "uniform", TEXT))
    for role in ("copying", "suppressing"):
        values = _mean(sums, role, TEXT)
        yield RoleScores(role, "text", values, np.where(np.isnan(values), np.nan, CHANCE))
    yield RoleScores("dormant", "text", _mean(sums, "dormant", TEXT), None)


def _controls(sums: Sums, role: str) -> Array:
    """Average over the control of each probe; NaN for one whose control failed."""
    numbers = [[row["prompt_id"].rpartition("-")[-1] for row in sums.of(one)] for one in (REPEATS, CONTROL)]
    values = _mean(sums, role, CONTROL)
    places = {number: place for place, number in enumerate(numbers[1])}
    nothing = np.full(values.shape[1:], np.nan)
    return np.stack([values[places[one]] if one in places else nothing for one in numbers[0]])


def _mean(sums: Sums, name: str, kind: str) -> Array:
    """Average over the rows of each unit that count, [units, layers, heads]."""
    total, rows = (sums.each("roles", one, kind) for one in (name, f"{name}.rows"))
    few = rows.sum(0) < FEWEST_ROWS
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(few, np.nan, total / rows)


def _rows(one: RoleScores, sums: Sums) -> Iterator[Row]:
    score, low, high = interval(one.values)
    held = one.values[1::2].mean(0)
    null = p = q = np.full_like(score, np.nan)
    if one.null is not None:
        null = seen(one.null).mean(0)
        p, q = exceeds(one.values, one.null)
    outputs = output_ratios(_mean(sums, "output", TEXT).mean(0)) if one.role == "dormant" else None
    for layer, head in np.ndindex(score.shape):
        at = layer, head
        row: Row = {"layer": layer, "head": head, "kv_group": sums.group_of(head), "role": one.role}
        numbers = {
            "score": score, "score_held": held, "null": null, "low": low, "high": high, "p": p, "q": q
        }  # fmt: skip
        row |= {name: _number(values[at]) for name, values in numbers.items()}
        ratio = None if outputs is None else _number(float(outputs[at]))
        yield row | {
            "present": _present(row), "n_units": len(one.values), "probe": one.probe, "output_ratio": ratio
        }  # fmt: skip


def output_ratios(sizes: Array) -> Array:
    """Divide the mean size of each head's output by the mean over its layer's heads; NaN where that is 0.

    Args:
        sizes: [layers, heads].
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = sizes / sizes.mean(1, keepdims=True)
    return np.where(np.isfinite(found), found, np.nan)


def _present(row: Row) -> bool | None:
    if row["score"] is None or row["low"] is None:
        return None
    if row["null"] is None:
        return bool(row["low"] > MOSTLY)
    return bool(row["low"] > row["null"] + PRESENT and row["q"] is not None and row["q"] <= CERTAIN)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
