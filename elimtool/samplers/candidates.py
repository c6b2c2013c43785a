"""Follow targets through the working distribution of a chain, and change it as stages do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.samplers.distribution import NEG_INF, Distribution, Order
from elimtool.samplers.layout import compacted, in_order
from elimtool.samplers.order import FEW, count_larger, tally


@dataclass(frozen=True, eq=False)
class Candidates(Distribution):
    """The working distribution of a chain, its targets, and the changes that stages make.

    Never edited in place: a change returns a new object, which keeps what is known to stay true.
    """

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
            logits: Any float dtype and device; ``-inf`` is a removed token.
            targets: Token ids to follow, -1 = none.
            dtype: float64, or float32 to work in the engine's precision.
            sequential: Sum in array order (only with float32).
            compiled: Whether compiled loops may be used, for float64: see ``elimtool.numerics.kernels``.

        Raises:
            ElimError: A row holds NaN or +inf, or no finite logit; or a target is not in the vocabulary.
        """
        scores, targets = logits.to("cpu", dtype), targets.cpu()
        highest = logits.amax(-1, keepdim=True).to("cpu", dtype)  # NaN if any logit of the row is
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
            wanted=targets,
        )
        begun.__dict__["top"] = highest  # what the cached property would compute again
        return begun

    def led_by(self, tokens: Int[Tensor, "rows some"]) -> None:
        """Take over which tokens have the largest scores of each row, falling, where that is known."""
        self.__dict__["_leaders"] = self.scores.gather(1, tokens)

    def at(self, values: Tensor, empty: float | bool) -> Tensor:
        """Read a tensor of columns at the targets; ``empty`` where a target is removed."""
        return values.gather(1, self._columns).masked_fill(self.gone, empty)

    @cached_property
    def gone(self) -> Bool[Tensor, "rows k"]:
        """Whether each target is removed (or padding)."""
        return self.slots < 0

    @cached_property
    def _columns(self) -> Int[Tensor, "rows k"]:
        """Valid column for every target, to gather from."""
        return self.slots.clamp(min=0)

    @cached_property
    def target_probs(self) -> Float64[Tensor, "rows k"]:
        """Probability of each target, 0 for a removed one."""
        return self.at(self.exact, 0.0)

    @cached_property
    def target_scores(self) -> Float[Tensor, "rows k"]:
        """Score of each target, ``-inf`` for a removed one."""
        return self.at(self.scores, NEG_INF)

    @cached_property
    def ranks(self) -> Int[Tensor, "rows k"]:
        """Strict rank of each target among the survivors, 1 .. n; 0 for a removed one."""
        scores = self.target_scores
        if self.order == "falling" and self.width >= FEW:
            above = torch.searchsorted(-self.scores, -scores)
        elif self.measured is not None:
            above = torch.from_numpy(self.measured.larger)
        else:
            above = count_larger(self.scores, scores)
        return (above + 1).masked_fill(self.gone, 0)

    def prob_of(self, tokens: Int[Tensor, " rows"]) -> Float64[Tensor, " rows"]:
        """Return the probability of one token per row, 0 where it is removed."""
        return (self.exact * (self.ids == tokens[:, None])).sum(-1)

    def with_total(self) -> Candidates:
        """Remember this distribution as the one before any removal, unless one is remembered."""
        if self.total is not None:
            return self
        fresh = replace(self, total=(self.top, torch.exp(self.scores - self.top).sum(-1, keepdim=True)))
        return fresh._inherit(self)

    def rescored(self, scores: Float[Tensor, "rows width"], keeps_order: bool) -> Candidates:
        """Replace the scores; ``keeps_order`` says that the change cannot reorder the tokens."""
        order: Order = self.order if keeps_order or self.order == "id" else "none"
        dead = self.at(scores, NEG_INF) == NEG_INF
        fresh = replace(self, scores=scores, order=order, slots=self.slots.masked_fill(dead, -1), total=None)
        if keeps_order and "ranks" in self.__dict__:
            fresh.__dict__["ranks"] = self.ranks.masked_fill(dead, 0)
        return fresh

    def sorted(self, *, anew: bool = True) -> Candidates:
        """Sort by falling score, the lower id first among ties.

        Args:
            anew: Whether an engine that sums in array order computes probabilities again after sorting; else
                they keep the rounding of the order before.
        """
        if self.order == "falling":
            return self
        if anew or not self.sequential:
            return self._in_order[0]
        found = replace(self._in_order[0])
        found.__dict__["probs"] = self.probs.gather(1, self._in_order[1])
        return found

    @cached_property
    def _in_order(self) -> tuple[Candidates, Int[Tensor, "rows some"]]:
        """Sorted copy, made once for all stages, and the column that each of its columns was."""
        return in_order(self)

    def keep(self, mask: Bool[Tensor, "rows width"], size: Int[Tensor, " rows"] | None = None) -> Candidates:
        """Remove every column outside ``mask``.

        Args:
            mask: Columns to keep; it may include removed tokens.
            size: Length of the engine's array afterwards; default: the survivors.
        """
        mask = mask if self.whole else mask & self.alive
        n = tally(mask)
        size = n if size is None else torch.maximum(size, n)
        if torch.equal(n, self.n):  # nothing is removed: what is known stays true
            return replace(self, size=size)._inherit(self)
        fresh = self._only(mask, n, size)
        if "n_drawable" in self.__dict__ and torch.equal(self.n_drawable, self.n):
            fresh.__dict__["n_drawable"] = n  # what is left only becomes more probable
        return fresh

    def _only(self, mask: Bool[Tensor, "rows width"], n: Tensor, size: Tensor) -> Candidates:
        """Remove the columns outside ``mask``, of which ``n`` are left in each row."""
        width = max(1, int(n.max()))
        if self.order == "falling" and torch.equal(mask, torch.arange(self.width) < n[:, None]):
            short = mask[:, :width]
            scores = self.scores[:, :width].masked_fill(~short, NEG_INF)
            tokens = self.ids[:, :width]
            slots = self.slots.masked_fill(self.slots >= n[:, None], -1)
            return replace(self, scores=scores, tokens=tokens, slots=slots, size=size)
        # while most tokens survive, copying columns would cost more than it saves
        if self.order == "id" and 2 * width > self.width:
            slots = self.slots.masked_fill(~self.at(mask, False), -1)
            return replace(self, scores=self.scores.masked_fill(~mask, NEG_INF), slots=slots, size=size)
        return compacted(self, mask, n, size)

    def revived(self, scores: Float[Tensor, "rows vocab"]) -> Candidates:
        """Replace the scores of the whole vocabulary: tokens that were removed may come back."""
        wanted = self.slots if self.wanted is None else self.wanted
        dead = (wanted < 0) | (scores.gather(1, wanted.clamp(min=0)) == NEG_INF)
        size = torch.full_like(self.size, self.vocab)
        slots = wanted.masked_fill(dead, -1)
        return replace(self, scores=scores, tokens=None, slots=slots, size=size, order="id", total=None)

    def stocked(self, empty: Bool[Tensor, " rows"]) -> Candidates:
        """Put a token into rows that have none, so that no stage is shown a row without survivors."""
        scores = self.scores.clone()
        scores[empty, 0] = 0.0
        return replace(self, scores=scores)

    def emptied(self, empty: Bool[Tensor, " rows"]) -> Candidates:
        """Remove every token of some rows."""
        scores = self.scores.masked_fill(empty[:, None], NEG_INF)
        return replace(self, scores=scores, slots=self.slots.masked_fill(empty[:, None], -1))

    def _inherit(self, other: Candidates) -> Candidates:
        """Take over what another object with the same scores in the same columns has computed."""
        for name, value in other.__dict__.items():
            if name not in self.__dict__ and name != "_in_order":  # that one has other sizes and totals
                self.__dict__[name] = value
        return self
