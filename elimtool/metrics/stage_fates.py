"""Say what stages of chains did to single targets: why, by which rule, and where that would change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.metrics.columns import null_where
from elimtool.metrics.metric import Indices, ReadoutView, RowFacts
from elimtool.samplers import StageRecord
from elimtool.samplers.stage import BIAS


def notes_of(record: StageRecord, row: int, spell: Callable[[int], str]) -> list[str]:
    """List the remarks of a stage about one row, with tokens as text."""
    return record.notes_on(row, lambda detail: detail.told(spell))


def rule_of(record: StageRecord, row: int, spell: Callable[[int], str]) -> str | None:
    """Return the rule by which a stage removed the most probable of a row's tokens that it removed."""
    return next((rule.told(spell) for rule in record.rules_on(row, 1)), None)


def bounds_of(
    records: Sequence[StageRecord], at: Indices, removed: npt.NDArray[np.bool_], margin: Any
) -> dict[str, Any]:
    """Say where the fate of each target would change: a bias of its logit, or what its rule names."""
    row, step, k = at
    of = np.array([record.bound_of for record in records] or [""])[step]
    found = np.where(removed & (of == BIAS), -margin, np.nan)
    telling = (of != BIAS) & (of != "")
    for i in telling.nonzero()[0].tolist():
        least = records[step[i]].least(int(k[i]), int(row[i]))
        found[i] = np.nan if least is None else least
    return {"bound": found, "bound_of": null_where(of.astype(object), np.isnan(found))}


def others_of(records: Sequence[StageRecord], at: Indices) -> dict[str, Any]:
    """Return rank and log-probability of each target in the row that a stage combined the output with."""
    row, step, k = at
    rank, logprob = np.zeros(len(row), dtype=np.int64), np.full(len(row), np.nan)
    for index, record in enumerate(records):
        if record.combines:
            here = step == index
            ranks, logprobs = record.others
            rank[here] = ranks.numpy()[row[here], k[here]]
            logprob[here] = logprobs.numpy()[row[here], k[here]]
    # of a token that is impossible there, minus infinity is no number of a table
    return {
        "other_rank": null_where(rank, rank == 0),
        "other_logprob": null_where(logprob, ~np.isfinite(logprob)),
    }


def whys(
    view: ReadoutView | RowFacts, records: Sequence[StageRecord], at: Indices, removed: npt.NDArray[np.bool_]
) -> list[str | None]:
    """Say why stages removed targets, or penalised them; ``None`` where they did neither.

    Args:
        view: Spells tokens.
        records: Stages.
        at: Indices of rows, records and targets.
        removed: Which of these targets the stage removed.
    """
    found: list[str | None] = [None] * len(removed)
    row, step, k = at
    telling = removed | np.array([record.tells for record in records])[step]
    for i in telling.nonzero()[0].tolist():
        found[i] = why_one(records[step[i]], int(k[i]), int(row[i]), bool(removed[i]), view.spell)
    return found


def why_one(record: StageRecord, k: int, row: int, removed: bool, spell: Callable[[int], str]) -> str | None:
    """Say why a stage removed or penalised a target; ``None`` if it did neither."""
    details = record.details(row)
    told = details.get(int(record.targets[row, k])) if details else None
    if told is not None:
        return told.told(spell)
    rule = record.rule(int(record.targets[row, k]), row) if removed else None
    if rule is not None:
        return rule.told(spell)
    return record.why_target(k, row) if removed else None
