"""Make the rows of the tables ``grammar``, ``grammar_targets`` and ``walk_grammar``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Any

import numpy as np

from elimtool.files.rows import Row
from elimtool.metrics.columns import Columns, place
from elimtool.metrics.metric import ReadoutView
from elimtool.samplers import Chain, History, Ledger
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.grammar import Grammar

SHOWN = 5
"""Allowed tokens that are named."""


def grammars_of(chain: Chain) -> Iterator[tuple[int, Grammar]]:
    """Iterate over the grammars of a chain that are on, with their places."""
    for index, stage in enumerate(chain.stages):
        if isinstance(stage, Grammar) and not stage.is_off():
            yield index, stage


def grammar_rows(
    chain: Chain, ledger: Ledger, written: Sequence[int], spell: Callable[[int], str], row: int = 0
) -> Iterator[Row]:
    """Make the row of each grammar of a chain for one row of logits.

    Args:
        chain: The chain, with the model's tokenizer.
        ledger: Its ledger.
        written: The output so far.
        spell: Returns the text of a token.
        row: The row of the ledger.
    """
    for index, stage in grammars_of(chain):
        record, found = ledger.records[index], stage.at(tuple(written))
        left = found.refused
        state = "" if left else stage.state("".join(map(spell, written)))
        cut = None if left else _likeliest_removed(ledger, index, row)
        yield {
            "chain": chain.name,
            "stage_index": index,
            "stage": stage.name,
            "engine": stage.engine,
            "mode": stage.mode,
            "syntax": stage.syntax,
            "n_written": found.length,
            "n_valid": found.valid,
            "refused": spell(written[found.valid]) if left else None,
            "state": state or None,
            "may_stop": None if left else found.complete,
            "n_allowed": None if left else int(found.allowed.sum()),
            "forced": None if left else int(found.allowed.sum()) == 1,
            "forced_text": found.forced or None,
            "mass_removed": float(record.mass_pruned[row]),
            "distortion": None if left else _distortion(ledger, index, row),
            "cut": None if cut is None else spell(cut[0]),
            "cut_prob": None if cut is None else cut[1],
        }


def _distortion(ledger: Ledger, index: int, row: int) -> float | None:
    """Return KL(after || before) of a stage; None where nothing is left."""
    before, after = (ledger.before(at).wide()[row].double().log_softmax(-1) for at in (index, index + 1))
    alive = after > NEG_INF
    if not bool(alive.any()):
        return None
    found = float((after[alive].exp() * (after[alive] - before[alive])).sum())
    return max(found, 0.0) if isfinite(found) else None


def _likeliest_removed(ledger: Ledger, index: int, row: int) -> tuple[int, float] | None:
    before = ledger.before(index).wide()[row].double()
    removed = before.masked_fill(~ledger.records[index].removed_mask[row], NEG_INF)
    token = int(removed.argmax())
    return None if float(removed[token]) == NEG_INF else (token, float(before.softmax(-1)[token]))


def stage_columns(
    view: ReadoutView, chains: Sequence[Chain], ledgers: Sequence[Ledger], past: Sequence[History]
) -> Columns:
    """Fill the table ``grammar`` for some rows."""
    found = [
        (at, row)
        for at, history in enumerate(past)
        for chain, ledger in zip(chains, ledgers, strict=True)
        for row in grammar_rows(chain, ledger, history.generated, view.spell, at)
    ]
    return _columns(view, found)


def target_columns(view: ReadoutView, chains: Sequence[Chain], past: Sequence[History]) -> Columns:
    """Fill the table ``grammar_targets`` for some rows."""
    found = [
        (at, row)
        for at, history in enumerate(past)
        for chain in chains
        for _, stage in grammars_of(chain)
        if not stage.at(history.generated).refused
        for row in _target_rows(view, chain, stage, at, history.generated)
    ]
    return _columns(view, found)


def _target_rows(
    view: ReadoutView, chain: Chain, stage: Grammar, at: int, written: tuple[int, ...]
) -> Iterator[Row]:
    for target in view.followed.targets[at]:
        if target.is_foil:
            continue
        ids = target.token_ids
        whole = stage.at((*written, *ids))
        valid = whole.valid - len(written)
        refused = valid < len(ids)
        allowed = np.flatnonzero(stage.at((*written, *ids[:valid])).allowed) if refused else np.array([], int)
        yield {
            "chain": chain.name,
            "target": target.text,
            "n_tokens": len(ids),
            "n_valid": valid,
            "valid_prefix": "".join(map(view.spell, ids[:valid])),
            "refused": view.spell(ids[valid]) if refused else None,
            "allowed": [view.spell(int(token)) for token in allowed[:SHOWN]] if refused else None,
            "n_allowed": len(allowed) if refused else None,
            "complete": whole.complete,
        }


def _columns(view: ReadoutView, found: Sequence[tuple[int, Row]]) -> Columns:
    if not found:
        return {}
    where = np.array([at for at, _ in found])
    columns: dict[str, Any] = {key: [row[key] for _, row in found] for key in found[0][1]}
    return {**place(view.batch, view.rows, where), **columns}
