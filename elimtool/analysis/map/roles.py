"""Score the roles of heads, each beside its null."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from elimtool.analysis.map.sums import CONTROL, MEMBER, NEEDLE, OTHER_NEEDLE, REPEATS, TEXT, Array, Sums
from elimtool.analysis.map.units import FEWEST_ROWS, exceeds, interval, outnumbers, seen
from elimtool.files.rows import Row, Rows

PRESENT = 0.1
"""How far the lower end of a role's interval is to be over its null."""
CERTAIN = 0.05
"""Largest q of a role that is present."""
MOSTLY = 0.5
"""Share of queries that a dormant head's interval is to be over."""
ANSWERED = 0.5
"""Share of an answer's tokens that the model itself is to say, else what it retrieves cannot be measured."""
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
        counted: Whether values are 0 or 1 and the null their chance: p is then exact.
        greedy: The score where the model itself would say the token, [layers, heads].
    """

    role: str
    probe: str
    values: Array
    null: Array | None
    counted: bool = False
    greedy: Array | None = None


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
    if sums.of(NEEDLE) and sums.of(OTHER_NEEDLE):
        yield _retrieval(sums)
    if sums.of(MEMBER):
        values, chance = _mean(sums, "successor", MEMBER), sums.each("roles", "chance", MEMBER)
        yield RoleScores("successor", MEMBER, values, np.where(np.isnan(values), np.nan, chance), True)


def answered(sums: Sums) -> float | None:
    """Return the share of the answers' tokens that the model itself would say; ``None`` without any."""
    if not sums.of(NEEDLE):
        return None
    said, all_of_them = (
        sums.each("roles", name, NEEDLE).max((1, 2)).sum() for name in ("greedy.rows", "retrieval.rows")
    )
    return float(said / all_of_them) if all_of_them else None


def _retrieval(sums: Sums) -> RoleScores:
    """Score retrieval; NaN where the model says too few of the answers."""
    values = _mean(sums, "retrieval", NEEDLE)
    share = answered(sums)
    if share is None or share < ANSWERED:
        values = np.full_like(values, np.nan)
    hits, rows = (sums.each("roles", name, NEEDLE).sum(0) for name in ("greedy", "greedy.rows"))
    with np.errstate(invalid="ignore", divide="ignore"):
        greedy = np.where(np.isnan(values).any(0), np.nan, hits / rows)
    null = _controls(sums, "retrieval", (NEEDLE, OTHER_NEEDLE))
    return RoleScores("retrieval", NEEDLE, values, null, greedy=greedy)


def _controls(sums: Sums, role: str, kinds: tuple[str, str] = (REPEATS, CONTROL)) -> Array:
    """Average over the control of each probe; NaN for one whose control failed."""
    numbers = [[row["prompt_id"].rpartition("-")[-1] for row in sums.of(one)] for one in kinds]
    values = _mean(sums, role, kinds[1])
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
        if len(known := seen(one.null)):
            null = np.where(np.isnan(score), np.nan, known.mean(0))
        p, q = (outnumbers if one.counted else exceeds)(one.values, one.null)
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
            "present": _present(row), "n_units": len(one.values), "probe": one.probe, "output_ratio": ratio,
            "greedy": None if one.greedy is None else _number(float(one.greedy[at])),
        }  # fmt: skip


def best(one: RoleScores, count: int) -> list[tuple[int, int]]:
    """Name the best heads that have a role, as layer and head: ranked on the odd units."""
    score, low, _ = interval(one.values)
    assert one.null is not None
    _, q = exceeds(one.values, one.null)
    present = (low > seen(one.null).mean(0) + PRESENT) & (q <= CERTAIN)
    ranked = np.where(present, one.values[::2].mean(0), -np.inf)
    order = np.argsort(-ranked, axis=None, kind="stable")[:count]
    places = [divmod(int(at), score.shape[1]) for at in order]
    return [place for place in places if present[place]]


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
