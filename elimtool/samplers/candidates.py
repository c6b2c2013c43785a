"""The working distribution of a chain: logits of rows in, reordered and shrunk copies out, never edited."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.samplers.distribution import NEG_INF, Distribution, Order
from elimtool.samplers.order import places, rising, tally


@dataclass(frozen=True, eq=False)
class Candidates(Distribution):
    """A distribution that stages rescore, reorder and cut; each time another one comes out."""

    @staticmethod
    def of(
        logits: Float[Tensor, "rows vocab"],
        targets: Int[Tensor, "rows k"],
        dtype: torch.dtype = torch.float64,
        sequential: bool = False,
        compiled: bool = False,
    ) -> Candidates:
        """Start from raw logits, on the CPU.

        Args:
            logits: Any float dtype and device; ``-inf`` is a token that is already removed.
            targets: Token ids to follow, -1 = none.
            dtype: float64, or float32 to work in the engine's precision.
            sequential: Accumulate one term after the other (only with float32).
            compiled: Whether compiled loops may be used, for float64: see ``elimtool.numerics.kernels``.

        Raises:
            ElimError: A row holds NaN or +inf, or no finite logit; or a target is not in the vocabulary.
        """
        scores, targets = logits.to("cpu", dtype), targets.cpu()
        highest = logits.amax(-1, keepdim=True).to("cpu", dtype)
        bad = ~torch.isfinite(highest)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise ElimError(f"row {row} of the logits holds NaN, +inf, or no finite value at all")
        if targets.numel() and (int(targets.max()) >= logits.shape[1] or int(targets.min()) < -1):
            raise ElimError(f"`targets` must be token ids from 0 to {logits.shape[1] - 1}, or -1 for none")
        alive = (scores.gather(1, targets.clamp(min=0)) > NEG_INF) & (targets >= 0)
        size = torch.full((logits.shape[0],), logits.shape[1], dtype=torch.int64)
        begun = Candidates(
            scores,
            None,
            targets.masked_fill(~alive, -1),
            logits.shape[1],
            size,
            sequential=sequential,
            compiled=compiled,
        )
        begun.__dict__["top"] = highest
        return begun

    def led_by(self, tokens: Int[Tensor, "rows some"]) -> None:
        """Be told which tokens have the largest scores of each row of the whole vocabulary, falling."""
        self.__dict__["_leaders"] = self.scores.gather(1, tokens)

    def with_total(self) -> Candidates:
        """Remember the present distribution as the one before any removal, if none is remembered yet."""
        if self.total is not None:
            return self
        fresh = replace(self, total=(self.top, torch.exp(self.scores - self.top).sum(-1, keepdim=True)))
        return fresh._inherit(self)

    def rescored(self, scores: Float[Tensor, "rows width"], keeps_order: bool) -> Candidates:
        """The same tokens with other scores; ``keeps_order`` where the change cannot reorder them."""
        order: Order = self.order if keeps_order or self.order == "id" else "none"
        dead = self.at(scores, NEG_INF) == NEG_INF
        fresh = replace(self, scores=scores, order=order, slots=self.slots.masked_fill(dead, -1), total=None)
        if keeps_order and "ranks" in self.__dict__:
            fresh.__dict__["ranks"] = self.ranks.masked_fill(dead, 0)
        return fresh

    def sorted(self) -> Candidates:
        """The same tokens by falling score, the lower id first among ties."""
        return self if self.order == "falling" else self._in_order

    @cached_property
    def _in_order(self) -> Candidates:
        columns = self._by_id() if self.order != "id" else None
        scores = self.scores if columns is None else self.scores.gather(1, columns)
        place = rising(-scores)
        scores = scores.gather(1, place)
        place = place if columns is None else columns.gather(1, place)
        return self._permuted(scores, place)

    def _by_id(self) -> Int[Tensor, "rows width"]:
        """Columns by rising token id, removed ones last."""
        return self.ids.masked_fill(~self.alive, self.vocab).argsort(dim=-1, stable=True)

    def _permuted(self, scores: Float[Tensor, "rows width"], place: Int[Tensor, "rows width"]) -> Candidates:
        """Put columns into falling order, dropping trailing columns that no row uses."""
        width = int(self.n.max())
        columns = torch.arange(self.width, device=place.device).expand(place.shape)
        inverse = torch.empty_like(place).scatter_(1, place, columns)
        slots = self.at(inverse, -1)
        place = place[:, :width]
        tokens = place if self.tokens is None else self.tokens.gather(1, place)
        fresh = replace(
            self, scores=scores[:, :width].contiguous(), tokens=tokens, slots=slots, order="falling"
        )
        for name in ("probs", "exact"):
            if name in self.__dict__ and not self.sequential:
                fresh.__dict__[name] = self.__dict__[name].gather(1, place)
        for name in ("n", "top", "entropy", "top_token", "top_prob", "ranks", "target_scores"):
            if name in self.__dict__:
                fresh.__dict__[name] = self.__dict__[name]
        return fresh

    def keep(self, mask: Bool[Tensor, "rows width"], size: Int[Tensor, " rows"] | None = None) -> Candidates:
        """Remove every column outside ``mask``.

        Args:
            mask: Columns to keep; removed ones may be set.
            size: Length of the engine's array afterwards; default: the survivors.
        """
        mask = mask if self.whole else mask & self.alive
        n = tally(mask)
        size = n if size is None else torch.maximum(size, n)
        if torch.equal(n, self.n):
            return replace(self, size=size)._inherit(self)
        width = int(n.max())
        if self.order == "falling" and torch.equal(mask, torch.arange(self.width) < n[:, None]):
            short = mask[:, :width]
            scores = self.scores[:, :width].masked_fill(~short, NEG_INF)
            tokens = self.ids[:, :width]
            slots = self.slots.masked_fill(self.slots >= n[:, None], -1)
            return replace(self, scores=scores, tokens=tokens, slots=slots, size=size)
        if self.order == "id" and 2 * width > self.width:
            slots = self.slots.masked_fill(~self.at(mask, False), -1)
            return replace(self, scores=self.scores.masked_fill(~mask, NEG_INF), slots=slots, size=size)
        return self._compacted(mask, n, width, size)

    def _compacted(
        self,
        mask: Bool[Tensor, "rows width"],
        n: Int[Tensor, " rows"],
        width: int,
        size: Int[Tensor, " rows"],
    ) -> Candidates:
        """Store the columns in ``mask`` only, in their present order."""
        filled = torch.arange(width, device=mask.device) < n[:, None]
        kept = places(mask)
        scores = self.scores.new_full(filled.shape, NEG_INF).masked_scatter_(filled, self.scores.take(kept))
        ids = kept % self.width if self.tokens is None else self.tokens.take(kept)
        tokens = torch.zeros(filled.shape, dtype=torch.int64, device=mask.device).masked_scatter_(filled, ids)
        begins = torch.arange(mask.shape[0])[:, None] * self.width
        ahead = torch.from_numpy(kept.numpy().searchsorted((begins + self._columns).numpy()))
        ahead -= (n.cumsum(0) - n)[:, None]
        slots = ahead.masked_fill(~self.at(mask, False), -1)
        return replace(self, scores=scores, tokens=tokens, slots=slots, size=size)

    def wide(self) -> Float[Tensor, "rows vocab"]:
        """The scores by token id, ``-inf`` for removed tokens."""
        if self.tokens is None:
            return self.scores
        spread = self.scores.new_full((self.scores.shape[0], self.vocab), NEG_INF)
        rows, columns = self.alive.nonzero(as_tuple=True)
        spread[rows, self.tokens[rows, columns]] = self.scores[rows, columns]
        return spread

    def _inherit(self, other: Candidates) -> Candidates:
        """Take over what another object with the same scores in the same places has computed."""
        for name, value in other.__dict__.items():
            if name not in self.__dict__ and name != "_in_order":  # that one has other sizes and totals
                self.__dict__[name] = value
        return self
