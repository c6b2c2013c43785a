"""Engines side by side: two ledgers of the same rows in, how far apart their results are out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.order import Row


@dataclass(frozen=True, eq=False)
class Difference:
    """Two chains on the same rows.

    Attributes:
        left: Name of the first chain.
        right: Name of the second.
        total_variation: Half the sum of absolute differences of the final probabilities, 0 .. 1.
        n_left: Survivors of the first chain.
        n_right: Survivors of the second.
        only_left: Ids of the tokens that survive the first chain alone, ascending, by row.
        only_right: Ids of the tokens that survive the second alone.
    """

    left: str
    right: str
    total_variation: Float64[Tensor, " rows"]
    n_left: Int[Tensor, " rows"]
    n_right: Int[Tensor, " rows"]
    only_left: tuple[Int[Tensor, "_"], ...]
    only_right: tuple[Int[Tensor, "_"], ...]


def compare(left: Ledger, right: Ledger) -> Difference:
    """How far apart the results of two chains are.

    Raises:
        ElimError: The ledgers are not of the same number of rows and vocabulary.
    """
    shapes = [(one.end.scores.shape[0], one.end.vocab) for one in (left, right)]
    if shapes[0] != shapes[1]:
        raise ElimError(
            f"chains '{left.chain}' and '{right.chain}' ran on different logits: {shapes[0]} and {shapes[1]}"
        )
    found = [_compared(left.end, right.end, row) for row in range(shapes[0][0])]
    return Difference(
        left=left.chain,
        right=right.chain,
        total_variation=torch.tensor([apart for apart, _, _ in found], dtype=torch.float64),
        n_left=left.end.n,
        n_right=right.end.n,
        only_left=tuple(torch.from_numpy(ids) for _, ids, _ in found),
        only_right=tuple(torch.from_numpy(ids) for _, _, ids in found),
    )


def _compared(left: Candidates, right: Candidates, row: int) -> tuple[float, Row, Row]:
    """Total variation of one row, and the ids that survive on one side alone."""
    stored = None
    if left.tokens is not None and right.tokens is not None:  # what neither stores is nothing to either
        stored = np.union1d(*(c.ids.numpy()[row, c.alive.numpy()[row]] for c in (left, right)))
    (one, p), (other, q) = (_outcome(c, row, stored) for c in (left, right))
    gap = p - q
    apart = 0.5 * float(np.abs(gap, out=gap).sum())
    only = [np.flatnonzero(one & ~other), np.flatnonzero(other & ~one)]
    ids = only if stored is None else [stored[places] for places in only]
    return apart, ids[0], ids[1]


def _outcome(c: Candidates, row: int, stored: Row | None) -> tuple[Row, Row]:
    """Whether each of some tokens (``None``: all) by rising id survives in a row, and its probability."""
    alive, probs = c.alive.numpy()[row], c.exact.numpy()[row]
    if c.tokens is None:
        return alive, probs
    tokens = c.tokens.numpy()[row, alive]
    places = tokens if stored is None else np.searchsorted(stored, tokens)
    width = c.vocab if stored is None else len(stored)
    survives, found = np.zeros(width, dtype=np.bool_), np.zeros(width)
    survives[places], found[places] = True, probs[alive]
    return survives, found


def total_variation(ledgers: Sequence[Ledger]) -> Float64[Tensor, "rows chains chains"]:
    """Total variation distances between all pairs of chains, 0 .. 1, 0 on the diagonal."""
    probs = [ledger.probs() for ledger in ledgers]
    rows = [torch.stack([0.5 * (a - b).abs().sum(-1) for b in probs], -1) for a in probs]
    return torch.stack(rows, 1)
