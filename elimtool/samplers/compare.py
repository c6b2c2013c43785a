"""Compare the distributions that two chains leave on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import LEADERS
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.order import Array, alive_parts, leaders
from elimtool.samplers.stage_record import spread


@dataclass(frozen=True, eq=False)
class Ordering:
    """Order of the tokens of each row: by falling value, the lower id first among ties."""

    values: Float[Tensor, "rows vocab"]
    maxima: npt.NDArray[np.float32] | None = None
    """Largest value of each block of a row's tokens, where compiled loops found them."""

    @cached_property
    def ahead(self) -> Int[Tensor, "rows some"]:
        """First tokens of each row, found once for all chains."""
        if self.maxima is not None:
            from elimtool.numerics.kernels.rows import leaders as compiled

            count = min(LEADERS, self.values.shape[1])
            return torch.from_numpy(compiled(self.values.numpy(), self.maxima, count))
        return torch.from_numpy(np.stack([leaders(row, LEADERS) for row in self.values.numpy()]))

    def best(
        self, tokens: Int[Tensor, "rows some"], among: Bool[Tensor, "rows some"], count: int
    ) -> list[list[int]]:
        """Return up to ``count`` first tokens of each row, of those marked in ``among``."""
        none = self.values.shape[1]
        # by id first, so that the stable sort by value leaves the lower id first among ties
        ids = tokens.masked_fill(~among, none).sort(-1).values
        own = self.values.gather(1, ids.clamp(max=none - 1)).masked_fill(ids == none, -torch.inf)
        first = own.sort(dim=-1, descending=True, stable=True).indices[:, :count]
        found = ids.gather(1, first).tolist()
        return [best[:n] for best, n in zip(found, among.sum(-1).tolist(), strict=True)]

    def best_of(self, tokens: Array, row: int, count: int) -> list[int]:
        """Return up to ``count`` first of many tokens of one row, given by rising id."""
        best: list[int] = tokens[leaders(self.values[row].numpy()[tokens], count)].tolist()
        return best


@dataclass(frozen=True, eq=False)
class ChainDifference:
    """The difference of two chains on the same rows.

    Attributes:
        left: Name of the first chain.
        right: Name of the second.
        total_variation: Half the sum of absolute differences of the final probabilities, 0 .. 1; NaN where
            a chain leaves no token.
        n_only_left: Number of tokens that survive only the first chain.
        n_only_right: Number of tokens that survive only the second.
        ends: Distributions after each chain.
    """

    left: str
    right: str
    total_variation: Float64[Tensor, " rows"]
    n_only_left: Int[Tensor, " rows"]
    n_only_right: Int[Tensor, " rows"]
    ends: tuple[Candidates, Candidates]

    def first(self, by: Ordering, count: int) -> tuple[list[list[int]], list[list[int]]]:
        """Return the first of the tokens that survive only one chain, for both chains.

        Args:
            by: Order of the tokens.
            count: Most tokens to return for each chain and row.
        """
        one, other = self.ends
        return (
            _first(one, other, self.n_only_left, by, count),
            _first(other, one, self.n_only_right, by, count),
        )


def compare(left: Ledger, right: Ledger) -> ChainDifference:
    """Compare the results of two chains.

    Raises:
        ElimError: The ledgers differ in number of rows or vocabulary.
    """
    shapes = [(one.end.scores.shape[0], one.end.vocab) for one in (left, right)]
    if shapes[0] != shapes[1]:
        raise ElimError(
            f"chains '{left.chain}' and '{right.chain}' ran on different logits: {shapes[0]} and {shapes[1]}"
        )
    a, b = left.end, right.end
    if a.tokens is not None:
        apart, common = _apart(a, b)
    elif b.tokens is not None:
        apart, common = _apart(b, a)
    else:
        apart, common = _apart_everywhere(a, b)
    return ChainDifference(
        left=left.chain,
        right=right.chain,
        total_variation=apart.masked_fill((a.n == 0) | (b.n == 0), torch.nan),
        n_only_left=a.n - common,
        n_only_right=b.n - common,
        ends=(a, b),
    )


def _apart(few: Candidates, other: Candidates) -> tuple[Float64[Tensor, " rows"], Int[Tensor, " rows"]]:
    """Return total variation and number of common survivors, where one side stores its survivors only."""
    kept, theirs = _found(other, few.ids)
    common = (kept & few.alive).sum(-1)
    apart = []
    for (p, q), beyond in zip(alive_parts(few.alive, few.exact, theirs), common < other.n, strict=True):
        rest = max(1.0 - float(q.sum()), 0.0) if beyond else 0.0  # mass of the other side's other tokens
        apart.append(0.5 * (float(np.abs(p - q).sum()) + rest))
    return torch.tensor(apart, dtype=torch.float64), common


def _apart_everywhere(
    one: Candidates, other: Candidates
) -> tuple[Float64[Tensor, " rows"], Int[Tensor, " rows"]]:
    """Return the same where both sides are over the whole vocabulary."""
    pairs = zip(one.exact.numpy(), other.exact.numpy(), strict=True)
    masks = zip(one.alive.numpy(), other.alive.numpy(), strict=True)
    apart = [0.5 * float(np.abs(p - q).sum()) for p, q in pairs]
    common = [np.count_nonzero(p & q) for p, q in masks]
    return torch.tensor(apart, dtype=torch.float64), torch.tensor(common, dtype=torch.int64)


def _found(
    c: Candidates, tokens: Int[Tensor, "rows some"]
) -> tuple[Bool[Tensor, "rows some"], Float64[Tensor, "rows some"]]:
    """Look up whether given tokens survive, and their probabilities."""
    if c.tokens is None:
        return c.alive.gather(1, tokens), c.exact.gather(1, tokens)
    if not c.width:
        return torch.zeros_like(tokens, dtype=torch.bool), torch.zeros(tokens.shape, dtype=torch.float64)
    ids, order = c.tokens.masked_fill(~c.alive, c.vocab).sort(-1)
    place = _places(ids, tokens, c.vocab + 1).clamp(max=c.width - 1)
    there = ids.gather(1, place) == tokens
    return there, c.exact.gather(1, order.gather(1, place)).masked_fill(~there, 0.0)


def _places(
    rising: Int[Tensor, "rows width"], wanted: Int[Tensor, "rows some"], more: int
) -> Int[Tensor, "rows some"]:
    """Return where wanted values would be inserted in their rows; ``more`` is larger than any value."""
    # one search in all rows, shifted apart; torch.searchsorted would start threads
    row = np.arange(len(rising))[:, None]
    places = (rising.numpy() + row * more).ravel().searchsorted(wanted.numpy() + row * more)
    return torch.from_numpy(places - row * rising.shape[1])


def _first(
    one: Candidates, other: Candidates, n_only: Int[Tensor, " rows"], by: Ordering, count: int
) -> list[list[int]]:
    """Return the first of the tokens that survive only on one side."""
    # of a whole vocabulary, the leading tokens are tried first: they mostly suffice
    tokens = by.ahead if one.tokens is None else one.tokens
    alive = one.alive.gather(1, tokens) if one.tokens is None else one.alive
    only = alive & ~_found(other, tokens)[0]
    found = by.best(tokens, only, count)
    short = (only.sum(-1) < n_only.clamp(max=count)).nonzero()[:, 0].tolist()
    if short:
        kept = spread(other, other.alive)
        for row in short:
            found[row] = by.best_of((one.alive[row] & ~kept[row]).numpy().nonzero()[0], row, count)
    return found
