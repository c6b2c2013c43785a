"""Make the rows of the tables ``grammar_passes`` and ``grammar_pass_targets``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from elimtool.files.rows import Row
from elimtool.metrics.columns import Columns, place
from elimtool.metrics.metric import ReadoutView
from elimtool.samplers import Ledger, StageRecord

Why = Callable[[StageRecord, int, int, bool, Callable[[int], str]], str | None]


def passes_of(ledger: Ledger, row: int) -> Iterator[tuple[int, float, int, StageRecord]]:
    """Iterate over the stages of both passes of a chain that runs twice; nothing for other chains.

    Yields:
        Number of the pass, its probability, the stage's place in it, and the stage.
    """
    for index, record in enumerate(ledger.records):
        if record.second is None or not bool(record.active[row]):
            continue
        again = min(1.0, float(record.mass_pruned[row]))
        yield from ((1, 1.0 - again, at, one) for at, one in enumerate(ledger.records[:index]))
        yield from ((2, again, at, one) for at, one in enumerate(record.second.records))


def pass_columns(view: ReadoutView, ledgers: Sequence[Ledger], why: Why) -> Mapping[str, Columns]:
    """Fill the tables for some rows.

    Args:
        view: The rows.
        ledgers: Ledgers of the chains on them.
        why: Says why a stage removed a target, see ``sampling.why_one``.
    """
    stages: list[tuple[int, Row]] = []
    fates: list[tuple[int, Row]] = []
    for row, targets in enumerate(view.followed.targets):
        for ledger in ledgers:
            for number, prob, at, record in passes_of(ledger, row):
                key = {"chain": ledger.chain, "pass": number, "pass_prob": prob, "stage_index": at}
                key["stage"] = record.stage
                stages.append((row, {**key, **_stage(record, row, view.spell)}))
                for k, target in enumerate(targets):
                    if int(record.targets[row, k]) >= 0:  # foils are left out
                        named = {"target": target.text, "target_token": target.token}
                        fate = _fate(record, k, row, view.spell, why)
                        fates.append((row, {**key, **named, **fate}))
    found = {"grammar_passes": stages, "grammar_pass_targets": fates}
    return {name: _columns(view, rows) for name, rows in found.items() if rows}


def _stage(record: StageRecord, row: int, spell: Callable[[int], str]) -> Row:
    left = int(record.n_after[row])
    return {
        "active": bool(record.active[row]),
        "n_before": int(record.n_before[row]),
        "n_after": left,
        "mass_pruned": float(record.mass_pruned[row]),
        "top_token": spell(int(record.top_token[row])) if left else None,
        "top_prob": float(record.top_prob[row]) if left else None,
    }


def _fate(record: StageRecord, k: int, row: int, spell: Callable[[int], str], why: Why) -> Row:
    alive, left = bool(record.alive_before[row, k]), bool(record.alive_after[row, k])
    return {
        "token_id": int(record.targets[row, k]),
        "alive_before": alive,
        "alive_after": left,
        "prob_before": float(record.prob_before[row, k]),
        "prob_after": float(record.prob_after[row, k]),
        "why": why(record, k, row, alive and not left, spell),
    }


def _columns(view: ReadoutView, found: Sequence[tuple[int, Row]]) -> Columns:
    where = np.array([at for at, _ in found])
    columns: dict[str, Any] = {key: [row[key] for _, row in found] for key in found[0][1]}
    return {**place(view.batch, view.rows, where), **columns}
