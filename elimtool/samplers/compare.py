"""Engines side by side: two ledgers of the same rows in, how far apart their results are out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.samplers.ledger import Ledger


@dataclass(frozen=True, eq=False)
class Difference:
    """Two chains on the same rows.

    Attributes:
        left: Name of the first chain.
        right: Name of the second.
        total_variation: Half the sum of absolute differences of the final probabilities, 0 .. 1.
        n_left: Survivors of the first chain.
        n_right: Survivors of the second.
        only_left: Tokens that survive the first chain alone.
        only_right: Tokens that survive the second alone.
    """

    left: str
    right: str
    total_variation: Float64[Tensor, " rows"]
    n_left: Int[Tensor, " rows"]
    n_right: Int[Tensor, " rows"]
    only_left: Bool[Tensor, "rows vocab"]
    only_right: Bool[Tensor, "rows vocab"]


def compare(left: Ledger, right: Ledger) -> Difference:
    """How far apart the results of two chains are.

    Raises:
        ElimError: The ledgers are not of the same number of rows and vocabulary.
    """
    if left.final.shape != right.final.shape:
        raise ElimError(
            f"chains '{left.chain}' and '{right.chain}' ran on different logits: "
            f"{tuple(left.final.shape)} and {tuple(right.final.shape)}"
        )
    return Difference(
        left=left.chain,
        right=right.chain,
        total_variation=0.5 * (left.probs() - right.probs()).abs().sum(-1),
        n_left=left.kept.sum(-1),
        n_right=right.kept.sum(-1),
        only_left=left.kept & ~right.kept,
        only_right=right.kept & ~left.kept,
    )


def total_variation(ledgers: Sequence[Ledger]) -> Float64[Tensor, "rows chains chains"]:
    """Total variation distances between all pairs of chains, 0 .. 1, 0 on the diagonal."""
    probs = [ledger.probs() for ledger in ledgers]
    rows = [torch.stack([0.5 * (a - b).abs().sum(-1) for b in probs], -1) for a in probs]
    return torch.stack(rows, 1)
