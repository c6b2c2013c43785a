"""Scores of the tokens in play: what they say of each row, its survivors and its targets, worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.numerics.ranking import largest, top
from elimtool.samplers.order import (
    FEW,
    count_larger,
    larger,
    softmax,
    sum_products,
    tally,
)

if TYPE_CHECKING:
    from elimtool.numerics.kernels.rows import RowStatistics

Order = Literal["id", "falling", "none"]
"""Column order: by token id, by falling score (the lower id first among ties), or none."""

NEG_INF = float("-inf")

LEADERS = 64
"""How many of the largest scores are found at once: engines' usual top-k need no more."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """Scores of the tokens still in play, for a batch of rows.

    A score of ``-inf`` is a removed token or padding. Columns need not be token ids: after a cut only the
    survivors are stored, so later stages cost what is left and not the vocabulary.

    Attributes:
        scores: Working logits, float64 (exact) or float32 (engine precision).
        tokens: Token id of every column; ``None`` while column and id are the same.
        slots: Column of each target, -1 for one removed (or padding).
        vocab: Size of the vocabulary, removed tokens included.
        size: Length of the array that the engine would hold; more than the survivors where an engine leaves
            ``-inf`` entries in its array.
        order: How the columns are ordered.
        total: ``(largest score, sum of exp(score - largest))`` of the distribution before any removal.
        sequential: Sum in array order in float32, as engines written in C do.
        compiled: Whether compiled loops may be used, see ``elimtool.numerics.kernels``.
    """

    scores: Float[Tensor, "rows width"]
    tokens: Int[Tensor, "rows width"] | None
    slots: Int[Tensor, "rows k"]
    vocab: int
    size: Int[Tensor, " rows"]
    order: Order = "id"
    total: tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows 1"]] | None = None
    sequential: bool = False
    compiled: bool = False

    @property
    def width(self) -> int:
        """Number of stored columns."""
        return self.scores.shape[1]

    @cached_property
    def alive(self) -> Bool[Tensor, "rows width"]:
        """Which columns hold a survivor."""
        if self.measured is not None and self.whole:
            return torch.ones(self.scores.shape, dtype=torch.bool)
        return larger(self.scores, self.scores.new_full((self.scores.shape[0], 1), NEG_INF))

    @cached_property
    def measured(self) -> RowStatistics | None:
        """What one compiled pass over the whole vocabulary finds, where that can be had."""
        if not self.compiled or self.tokens is not None or self.scores.dtype != torch.float64:
            return None
        from elimtool.numerics.kernels.rows import measured

        return measured(self.scores.numpy(), self.top[:, 0].numpy(), self.slots.numpy())

    @cached_property
    def n(self) -> Int[Tensor, " rows"]:
        """Survivors, 1 .. vocab."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.left)
        return tally(self.alive)

    @cached_property
    def whole(self) -> bool:
        """Whether every column holds a survivor."""
        return int(self.n.min()) == self.width

    @cached_property
    def top(self) -> Float[Tensor, "rows 1"]:
        """The largest score of each row."""
        return self.scores.amax(-1, keepdim=True)

    @cached_property
    def ids(self) -> Int[Tensor, "rows width"]:
        """Token id of every column."""
        if self.tokens is not None:
            return self.tokens
        return torch.arange(self.width, device=self.scores.device).expand(self.scores.shape)

    @cached_property
    def probs(self) -> Float[Tensor, "rows width"]:
        """Probabilities over the survivors in the working precision, 0 for removed tokens."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.probs)
        if not self.sequential:
            return softmax(self.scores, self.alive)
        weights = torch.exp(self.scores - self.top)
        return weights / self.running(weights)[:, -1:]

    @cached_property
    def exact(self) -> Float64[Tensor, "rows width"]:
        """The same probabilities in float64, whatever the working precision: what the ledger reports."""
        if self.scores.dtype == torch.float64:
            return self.probs
        return softmax(self.scores.double(), self.alive)

    @cached_property
    def entropy(self) -> Float64[Tensor, " rows"]:
        """Shannon entropy of the survivors in nats."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.entropy)
        # H = ln Z - sum p l, with the best score as the origin
        weighted = sum_products(self.exact, (self.scores - self.top).double(), self.alive)
        return (-weighted - self.top_prob.log()).clamp(min=0.0)

    @cached_property
    def top_prob(self) -> Float64[Tensor, " rows"]:
        """Probability of the most probable survivor, as the ledger reports it."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.top_prob)
        return self.exact.amax(-1)

    def mass(self, mask: Bool[Tensor, "rows width"]) -> Float64[Tensor, " rows"]:
        """Probability of the survivors inside a mask, as the ledger reports it."""
        if self.measured is None:
            return sum_products(self.exact, mask.double(), self.alive)
        from elimtool.numerics.kernels.rows import held

        return torch.from_numpy(held(self.measured.probs, mask.numpy()))

    @cached_property
    def top_token(self) -> Int[Tensor, " rows"]:
        """The most probable survivor; the lowest id among ties."""
        if self.order == "falling":
            return self.ids[:, 0]
        if self.order == "id":
            first = top(self.scores)
            return first if self.tokens is None else self.tokens.gather(1, first[:, None])[:, 0]
        best = self.scores == self.top
        return self.ids.masked_fill(~best, self.vocab).amin(-1)

    @cached_property
    def full_probs(self) -> Float[Tensor, "rows width"]:
        """Probabilities on the distribution before any removal (they sum to less than 1 afterwards)."""
        if self.total is None:
            return self.probs
        return torch.exp(self.scores - self.total[0]) / self.total[1]

    def running(self, values: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """Cumulative sums along each row, accumulated in float32 one by one where the engine does."""
        if not self.sequential:
            return values.cumsum(-1)
        return torch.from_numpy(values.cpu().numpy().cumsum(axis=-1)).to(values.device)

    def kth(self, k: int) -> Float[Tensor, "rows 1"]:
        """The k-th largest score of each row, ``-inf`` where fewer tokens survive."""
        return self.after(self.size.new_full(self.size.shape, k - 1))

    def after(self, count: Int[Tensor, " rows"]) -> Float[Tensor, "rows 1"]:
        """The largest score behind so many of each row's largest ones, ``-inf`` where there is none."""
        count = count[:, None]
        none = count >= self.width
        count = count.masked_fill(none, 0)
        known = self.scores if self.order == "falling" else self._leaders
        if int(count.max()) >= known.shape[1]:
            known = largest(self.scores, int(count.max()) + 1)
        return known.gather(1, count).masked_fill(none, NEG_INF)

    @cached_property
    def _leaders(self) -> Float[Tensor, "rows leaders"]:
        """The largest scores of each row, falling."""
        return largest(self.scores, LEADERS)

    def at(self, values: Tensor, empty: float | bool) -> Tensor:
        """Read a per-column tensor at the targets; ``empty`` where a target is gone."""
        return values.gather(1, self._columns).masked_fill(self.gone, empty)

    @cached_property
    def gone(self) -> Bool[Tensor, "rows k"]:
        """Which targets are removed (or padding)."""
        return self.slots < 0

    @cached_property
    def _columns(self) -> Int[Tensor, "rows k"]:
        """A valid column for every target, for gathering."""
        return self.slots.clamp(min=0)

    @cached_property
    def target_probs(self) -> Float64[Tensor, "rows k"]:
        """Probability of each target, 0 for one that is gone."""
        return self.at(self.exact, 0.0)

    @cached_property
    def target_scores(self) -> Float[Tensor, "rows k"]:
        """Score of each target, ``-inf`` for one that is gone."""
        return self.at(self.scores, NEG_INF)

    @cached_property
    def ranks(self) -> Int[Tensor, "rows k"]:
        """Strict rank of each target among the survivors, 1 .. n; 0 for one that is gone."""
        scores = self.target_scores
        if self.order == "falling" and self.width >= FEW:
            above = torch.searchsorted(-self.scores, -scores)
        elif self.measured is not None:
            above = torch.from_numpy(self.measured.larger)
        else:
            above = count_larger(self.scores, scores)
        return (above + 1).masked_fill(self.gone, 0)

    def column(self, token: int, row: int) -> int | None:
        """Column of a surviving token in a row; ``None`` for one that is removed."""
        alive = self.alive.numpy()[row]
        if self.tokens is None:
            return token if alive[token] else None
        found = np.flatnonzero(alive & (self.tokens.numpy()[row] == token))
        return int(found[0]) if len(found) else None

    def columns_of(self, tokens: Int[Tensor, "rows some"]) -> Int[Tensor, "rows some"]:
        """Column of each given token, -1 where it is not stored (or is itself -1)."""
        if self.tokens is None:
            return tokens
        inverse = torch.full((self.scores.shape[0], self.vocab), -1, device=tokens.device)
        rows, columns = self.alive.nonzero(as_tuple=True)
        inverse[rows, self.tokens[rows, columns]] = columns
        return inverse.gather(1, tokens.clamp(min=0)).masked_fill(tokens < 0, -1)
