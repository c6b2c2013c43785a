"""Say what each stage of a chain did to a followed token, over the ways that a chain can go by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isnan, log2

from elimtool.engine.forced import Ways
from elimtool.files.rows import Row, Rows
from elimtool.metrics.stage_fates import why_one


def stage_fates(found: Ways, followed: int, spell: Callable[[int], str]) -> Rows:
    """Make the columns of ``run.tables.sequences.FATE`` for each stage.

    Probabilities are means over the ways that the chain can go, so that those after a stage are those before
    the next, and bits sum to what the whole chain changes.

    Args:
        found: Ledgers of one row.
        followed: Which of their targets.
        spell: Spells tokens.
    """
    return [_stage_fate(found, followed, at, spell) for at in range(len(found[0][1].records))]


def _stage_fate(found: Ways, followed: int, at: int, spell: Callable[[int], str]) -> Row:
    ways = [(weight, ledger.records[at]) for weight, ledger in found]
    before = mean((weight, float(one.prob_before[0, followed])) for weight, one in ways)
    after = mean((weight, float(one.prob_after[0, followed])) for weight, one in ways)
    begun = [(weight, one) for weight, one in ways if bool(one.alive_before[0, followed])]
    alive = any(bool(one.alive_after[0, followed]) for _, one in ways)
    usual = max(begun, key=lambda way: way[0])[1] if begun else ways[0][1]
    return {
        "stage_index": at,
        "stage": usual.stage,
        "active": any(bool(one.active[0]) for _, one in ways),
        "rank_before": min(int(one.rank_before[0, followed]) for _, one in begun) if begun else None,
        "prob_before": before,
        "prob_after": after,
        "bits": log2(after / before) if before > 0 and after > 0 else None,
        "alive_after": alive,
        "why": why_one(usual, followed, 0, not alive, spell) if begun else None,
    }


def mean(weighted: Iterable[tuple[float, float]]) -> float:
    """Add weighted probabilities up; one that is no number, after a row was emptied, counts as 0."""
    return min(1.0, sum(weight * value for weight, value in weighted if not isnan(value)))


def remover(fates: Rows) -> Row | None:
    """Find the stage that removes a token; ``None`` where it survives."""
    return next((fate for fate in fates if not fate["alive_after"]), None)
