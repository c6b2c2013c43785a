"""Measure a working distribution: probabilities, entropy, mass and order of the tokens still in play."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Shaped
from torch import Tensor

from elimtool.numerics.ranking import largest, top
from elimtool.numerics.transfer import sent
from elimtool.samplers.order import at_least, larger, softmax, sum_products, tally

if TYPE_CHECKING:
    from elimtool.numerics.kernels.rows import RowStatistics

Order = Literal["id", "falling", "none"]
"""Order of columns: by token id, by falling score (the lower id first among ties), or none."""

NEG_INF = float("-inf")

LEAST_DRAWN = 2.0**-149
"""The least probability above 0 that float32 holds, in which engines draw."""

LEADERS = 64
"""Number of largest scores found at once; engines' usual top-k need no more."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """Order of the tokens of each row, sorted when it is first asked for."""

    scores: Float[Tensor, "rows vocab"]

    @cached_property
    def tokens(self) -> Int[Tensor, "rows vocab"]:
        """Token ids by falling score, the lower id first among ties."""
        return self.scores.argsort(dim=-1, descending=True, stable=True)


@dataclass(frozen=True, eq=False)
class Distribution:
    """Scores of the tokens still in play, for a batch of rows, and what is computed from them.

    A score of ``-inf`` is a removed token or padding. Columns need not be token ids: after a cut only the
    survivors are stored, so that the cost of later stages depends on them and not on the vocabulary. On a
    device that would have to be waited for: there removed tokens keep their columns (``masked``), but for
    stages that say beforehand how many they leave.

    Attributes:
        scores: Working logits, float64 (exact) or float32 (engine precision).
        tokens: Token id of every column; ``None`` while columns are token ids.
        slots: Column of each target, -1 for one removed (or padding).
        vocab: Size of the vocabulary, removed tokens included.
        size: Length of the engine's array; more than the survivors where an engine leaves ``-inf`` entries in
            it.
        order: Order of the columns.
        total: ``(largest score, sum of exp(score - largest))`` of the distribution before any removal.
        sequential: Whether sums are in array order in float32, as in engines written in C.
        compiled: Whether compiled loops may be used, see ``elimtool.numerics.kernels``.
        wanted: Token ids of the targets, -1 = none, whatever became of them.
        masked: Whether no number is looked at on the host, and no shape depends on one.
        may_be_empty: Whether a stage could have removed all tokens of a row, where ``masked``.
        ranked: Order of all tokens, found once for all chains that do not change it, where ``masked``.
        holes: Whether tokens were removed since that order was found.
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
    wanted: Int[Tensor, "rows k"] | None = None
    masked: bool = False
    may_be_empty: bool = False
    ranked: Ranked | None = None
    holes: bool = False

    @property
    def width(self) -> int:
        """Number of stored columns."""
        return self.scores.shape[1]

    @cached_property
    def alive(self) -> Bool[Tensor, "rows width"]:
        """Whether each column holds a survivor."""
        if self.measured is not None and self.whole:
            return torch.ones(self.scores.shape, dtype=torch.bool)
        return larger(self.scores, self.scores.new_full((self.scores.shape[0], 1), NEG_INF))

    @cached_property
    def measured(self) -> RowStatistics | None:
        """Statistics from one compiled pass over the whole vocabulary; ``None`` where it cannot be used."""
        if self.masked or not self.compiled or self.tokens is not None or self.scores.dtype != torch.float64:
            return None
        if bool((self.top == NEG_INF).any()):  # the loops want a survivor in every row
            return None
        from elimtool.numerics.kernels.rows import measured

        return measured(self.scores.numpy(), self.top[:, 0].numpy(), self.slots.numpy())

    @cached_property
    def n(self) -> Int[Tensor, " rows"]:
        """Number of survivors, 0 .. vocab."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.left)
        return tally(self.alive)

    @cached_property
    def n_drawable(self) -> Int[Tensor, " rows"]:
        """Number of tokens that can be drawn: survivors whose probability float32 can hold."""
        if self.whole and self._least >= LEAST_DRAWN:
            return self.n
        return tally(at_least(self.exact, self.exact.new_full((self.scores.shape[0], 1), LEAST_DRAWN)))

    @property
    def _least(self) -> float:
        """Least probability of any column; to find it is half as costly as to compare all and count."""
        found = self.exact.numpy() if self.measured is None else self.measured.least
        return float(found.min())

    @cached_property
    def whole(self) -> bool:
        """Whether every column holds a survivor."""
        return not self.masked and self.fewest == self.width

    @cached_property
    def filled(self) -> bool:
        """Whether every row is known to hold a survivor."""
        return not self.may_be_empty if self.masked else self.fewest > 0

    @cached_property
    def fewest(self) -> int:
        """Survivors of the row that has the fewest."""
        return int(self.n.min())

    @cached_property
    def top(self) -> Float[Tensor, "rows 1"]:
        """Largest score of each row."""
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
        # as C engines: torch sums in another order, and its exp is a rounding further from the C library's
        weights = torch.exp((self.scores - self.top).double()).float()
        return weights / self.running(weights)[:, -1:]

    @cached_property
    def exact(self) -> Float64[Tensor, "rows width"]:
        """Probabilities in float64, whatever the working precision, for the ledger."""
        if self.scores.dtype == torch.float64:
            return self.probs
        return softmax(self.scores.double(), self.alive)

    @cached_property
    def entropy(self) -> Float64[Tensor, " rows"]:
        """Shannon entropy of the survivors in nats; NaN where there are none."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.entropy)
        # H = ln Z - sum p l, with the best score as the origin
        weighted = sum_products(self.exact, (self.scores - self.top).double(), self.alive)
        found = (-weighted - self.top_prob.log()).clamp(min=0.0)
        return found if self.filled else found.masked_fill(self.n == 0, torch.nan)

    @cached_property
    def top_prob(self) -> Float64[Tensor, " rows"]:
        """Probability (float64) of the most probable survivor; NaN where there is none."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.top_prob)
        found = self.exact.amax(-1)
        return found if self.filled else found.masked_fill(self.n == 0, torch.nan)

    @cached_property
    def collision(self) -> Float64[Tensor, " rows"]:
        """Sum of the squared probabilities: the chance that two draws are the same token."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.squared)
        return sum_products(self.exact, self.exact, self.alive)

    @cached_property
    def held(self) -> Float64[Tensor, " rows"]:
        """Sum of the survivors' probabilities: 1 up to rounding, 0 where there are none."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.held)
        return sum_products(self.exact, torch.ones_like(self.exact), self.alive)

    def mass(self, mask: Bool[Tensor, "rows width"]) -> Float64[Tensor, " rows"]:
        """Sum the probabilities (float64) of the survivors inside a mask."""
        if self.measured is None:
            return sum_products(self.exact, mask.double(), self.alive)
        from elimtool.numerics.kernels.rows import held

        return torch.from_numpy(held(self.measured.probs, mask.numpy()))

    @cached_property
    def top_token(self) -> Int[Tensor, " rows"]:
        """Most probable survivor; the lowest id among ties."""
        if self.order == "falling":
            return self.ids[:, 0]
        if self.order == "id":
            first = top(self.scores)
            return first if self.tokens is None else self.tokens.gather(1, first[:, None])[:, 0]
        best = self.scores == self.top
        return self.ids.masked_fill(~best, self.vocab).amin(-1)

    @cached_property
    def full_probs(self) -> Float[Tensor, "rows width"]:
        """Probabilities of the distribution before any removal; after one they sum to less than 1."""
        if self.total is None:
            return self.probs
        return torch.exp(self.scores - self.total[0]) / self.total[1]

    def running(self, values: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """Sum cumulatively along each row, in float32 in array order where the engine does."""
        if not self.sequential:
            return values.cumsum(-1)
        return torch.from_numpy(values.numpy().cumsum(axis=-1))  # torch accumulates in double

    def kth(self, k: int) -> Float[Tensor, "rows 1"]:
        """Return the k-th largest score of each row, ``-inf`` where fewer tokens survive."""
        if self.masked:
            return self._leading(k)[:, k - 1 : k] if k <= self.width else torch.full_like(self.top, NEG_INF)
        return self.after(self.size.new_full(self.size.shape, k - 1))

    def after(self, count: Int[Tensor, " rows"]) -> Float[Tensor, "rows 1"]:
        """Return each row's (count + 1)-th largest score, ``-inf`` where there is none."""
        count = count[:, None]
        none = count >= self.width
        if self.masked:
            falling = self.scores if self.order == "falling" else self.scores.sort(-1, descending=True).values
            return falling.gather(1, count.clamp(max=self.width - 1)).masked_fill(none, NEG_INF)
        count = count.masked_fill(none, 0)
        known = self.scores if self.order == "falling" else self._leaders
        if int(count.max()) >= known.shape[1]:
            known = largest(self.scores, int(count.max()) + 1)
        return known.gather(1, count).masked_fill(none, NEG_INF)

    def best_outside(self, kept: Bool[Tensor, "rows width"]) -> Float[Tensor, "rows 1"]:
        """Return each row's largest score outside a mask that holds its largest ones, ``-inf`` for none."""
        if self.masked:
            return self.scores.masked_fill(kept, NEG_INF).amax(-1, keepdim=True)
        return self.after(tally(kept))

    def _leading(self, count: int) -> Float[Tensor, "rows leading"]:
        """Return at least so many of each row's largest scores, falling."""
        if self.order == "falling":
            return self.scores
        return self._leaders if count <= self._leaders.shape[1] else largest(self.scores, count)

    @cached_property
    def _leaders(self) -> Float[Tensor, "rows leaders"]:
        """Largest scores of each row, falling."""
        return largest(self.scores, LEADERS)

    def column(self, token: int, row: int) -> int | None:
        """Return the column of a surviving token in a row; ``None`` for a removed one."""
        alive = self.alive.numpy()[row]
        if self.tokens is None:
            return token if alive[token] else None
        found = np.flatnonzero(alive & (self.tokens.numpy()[row] == token))
        return int(found[0]) if len(found) else None

    def change(
        self,
        scores: Float[Tensor, "rows width"],
        tokens: Int[Tensor, "rows some"],
        how: Callable[..., Tensor],
        *beside: Shaped[Tensor, "rows some"],
    ) -> None:
        """Change scores of some tokens, in place.

        Args:
            scores: The scores, in the columns of this distribution.
            tokens: Token ids of the host, each at most once in a row; -1 = none.
            how: Makes new scores of old ones and of what stands beside them.
            beside: Numbers of the host that stand beside the tokens.
        """
        if not self.masked:
            at, columns = self._located(tokens)
            scores[at[0], columns] = how(scores[at[0], columns], *(one[at] for one in beside))
            return
        device, width = scores.device, self.width
        tokens, *others = (sent(one, device) for one in (tokens, *beside))
        columns = tokens.masked_fill(tokens < 0, self.vocab)
        if self.tokens is not None:
            every = torch.arange(width, device=device).expand(self.tokens.shape)
            inverse = torch.full((scores.shape[0], self.vocab + 1), width, device=device)
            inverse.scatter_(1, self.tokens.masked_fill(~self.alive, self.vocab), every)
            inverse[:, self.vocab] = width  # where those of removed tokens went
            columns = inverse.gather(1, columns)
        # what is not stored changes a column that is cut off
        wide = torch.cat([scores, torch.zeros_like(scores[:, :1])], 1)
        wide.scatter_(1, columns, how(wide.gather(1, columns), *others))
        scores.copy_(wide[:, :width])

    def among(self, tokens: Sequence[int]) -> Bool[Tensor, "rows width"]:
        """Mark the columns of some tokens."""
        if not self.masked:
            return torch.isin(self.ids, torch.tensor(tokens, dtype=torch.int64))
        marks = torch.zeros(self.vocab, dtype=torch.bool)
        marks[[token for token in tokens if token < self.vocab]] = True
        there = sent(marks, self.scores.device).expand(self.scores.shape[0], -1)
        return there if self.tokens is None else there.gather(1, self.tokens)

    def _located(
        self, tokens: Int[Tensor, "rows some"]
    ) -> tuple[tuple[Int[Tensor, " found"], Int[Tensor, " found"]], Int[Tensor, " found"]]:
        """Find tokens (-1 = none): indices ``(row, place)`` of those that are stored, and their columns."""
        columns = tokens
        if self.tokens is not None:
            inverse = torch.full((self.scores.shape[0], self.vocab), -1)
            rows, stored = self.alive.nonzero(as_tuple=True)
            inverse[rows, self.tokens[rows, stored]] = stored
            columns = inverse.gather(1, tokens.clamp(min=0)).masked_fill(tokens < 0, -1)
        row, place = (columns >= 0).nonzero(as_tuple=True)
        return (row, place), columns[row, place]

    def wide(self) -> Float[Tensor, "rows vocab"]:
        """Return the scores by token id, ``-inf`` for removed tokens."""
        if self.tokens is None:
            return self.scores
        if self.masked:  # what is removed goes into a column of its own, which is cut off
            spread = self.scores.new_full((self.scores.shape[0], self.vocab + 1), NEG_INF)
            places = self.tokens.masked_fill(~self.alive, self.vocab)
            return spread.scatter_(1, places, self.scores)[:, : self.vocab]
        spread = self.scores.new_full((self.scores.shape[0], self.vocab), NEG_INF)
        rows, columns = self.alive.nonzero(as_tuple=True)
        spread[rows, self.tokens[rows, columns]] = self.scores[rows, columns]
        return spread
