"""Compare the distributions that two chains leave on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import LEADERS, Ranked
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.order import Array, alive_parts, leaders
from elimtool.samplers.stage_record import spread

Firsts = tuple[Int[Tensor, "rows count"], Int[Tensor, "rows count"]]
"""Tokens for the first and for the second of two chains."""


@dataclass(frozen=True, eq=False)
class Ordering:
    """Order of the tokens of each row: by falling value, the lower id first among ties."""

    values: Float[Tensor, "rows vocab"]
    maxima: npt.NDArray[np.float32] | None = None
    """Largest value of each block of a row's tokens, where compiled loops found them."""
    ranked: Ranked | None = None
    """The tokens in this order, where they are on a device."""

    @cached_property
    def ahead(self) -> Int[Tensor, "rows some"]:
        """First tokens of each row, found once for all chains."""
        if self.maxima is not None:
            from elimtool.numerics.kernels.rows import leaders as compiled

            count = min(LEADERS, self.values.shape[1])
            return torch.from_numpy(compiled(self.values.numpy(), self.maxima, count))
        return torch.from_numpy(np.stack([leaders(row, LEADERS) for row in self.values.numpy()]))

    def marked(self, among: Bool[Tensor, "rows vocab"], count: int) -> Int[Tensor, "rows count"]:
        """Return up to ``count`` first tokens of each row of a device that are marked, -1 behind them."""
        if self.ranked is None:
            raise ValueError("the order of tokens of a device is not known")
        order = self.ranked.tokens
        vocab = order.shape[1]
        left = torch.arange(vocab, 0, -1, device=order.device)  # all differ: of ties a device takes any
        first = left.masked_fill(~among.gather(1, order), 0).topk(min(count, vocab), -1).values
        found = order.gather(1, (vocab - first).clamp(max=vocab - 1)).masked_fill(first == 0, -1)
        return torch.nn.functional.pad(found, (0, count - found.shape[1]), value=-1)

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
        only: Returns the first of the tokens that survive only one chain, see ``first``.
    """

    left: str
    right: str
    total_variation: Float64[Tensor, " rows"]
    n_only_left: Int[Tensor, " rows"]
    n_only_right: Int[Tensor, " rows"]
    only: Callable[[Ordering, int], Firsts]

    def first(self, by: Ordering, count: int) -> Firsts:
        """Return the first of the tokens that survive only one chain, for both chains; -1 behind them.

        Args:
            by: Order of the tokens.
            count: Most tokens to return for each chain and row.
        """
        return self.only(by, count)


@dataclass(frozen=True, eq=False)
class SpreadOut:
    """A distribution on a device over the whole vocabulary, by token id."""

    alive: Bool[Tensor, "rows vocab"]
    probs: Float64[Tensor, "rows vocab"]
    n: Int[Tensor, " rows"]

    @staticmethod
    def of(c: Candidates) -> SpreadOut:
        """SpreadOut a distribution out."""
        if c.tokens is None:
            return SpreadOut(c.alive, c.exact, c.n)
        # added, as in ``spread``: padding columns repeat token 0
        wide = torch.zeros((c.tokens.shape[0], c.vocab), dtype=torch.float64, device=c.tokens.device)
        return SpreadOut(spread(c, c.alive), wide.scatter_add_(1, c.tokens, c.exact), c.n)


def differences(ledgers: Sequence[Ledger]) -> list[ChainDifference]:
    """Compare every two of some chains; errors as of ``compare``."""
    away = next((one.end.scores.device for one in ledgers if one.end.masked), None)
    if away is None:
        return [compare(left, right) for left, right in combinations(ledgers, 2)]
    spread_out = [(one.chain, SpreadOut.of(one.end.on(away))) for one in ledgers]
    return [_difference(*left, *right) for left, right in combinations(spread_out, 2)]


def _difference(left: str, a: SpreadOut, right: str, b: SpreadOut) -> ChainDifference:
    apart = 0.5 * (a.probs - b.probs).abs_().sum(-1)
    common = (a.alive & b.alive).sum(-1)
    return ChainDifference(
        left=left,
        right=right,
        total_variation=apart.masked_fill((a.n == 0) | (b.n == 0), torch.nan),
        n_only_left=a.n - common,
        n_only_right=b.n - common,
        only=lambda by, count: (
            by.marked(a.alive & ~b.alive, count),
            by.marked(b.alive & ~a.alive, count),
        ),
    )


def _filled(rows: list[list[int]], count: int) -> Int[Tensor, "rows count"]:
    """Fill rows of tokens with -1."""
    return torch.tensor([[*row, *[-1] * (count - len(row))] for row in rows], dtype=torch.int64)


def compare(left: Ledger, right: Ledger) -> ChainDifference:
    """Compare the results of two chains on the host.

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
        n_only_left=(left_only := a.n - common),
        n_only_right=(right_only := b.n - common),
        only=lambda by, count: (
            _filled(_first(a, b, left_only, by, count), count),
            _filled(_first(b, a, right_only, by, count), count),
        ),
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
