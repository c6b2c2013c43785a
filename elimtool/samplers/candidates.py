"""Follow targets through the working distribution of a chain, and change it as stages do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.numerics.transfer import array, sent
from elimtool.samplers.distribution import NEG_INF, Distribution, Order, Ranked
from elimtool.samplers.layout import compacted, hidden, in_order
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
        masked: bool | None = None,
    ) -> Candidates:
        """Start from raw logits, on their device.

        Args:
            logits: Any float dtype and device; ``-inf`` is a removed token.
            targets: Token ids to follow, -1 = none; those of the host are sent to the logits.
            dtype: float64, or float32 to work in the engine's precision.
            sequential: Sum in array order (only with float32).
            compiled: Whether compiled loops may be used, for float64: see ``elimtool.numerics.kernels``.
            masked: Whether to look at no number on the host; ``None`` = if the logits are on another device.

        Raises:
            ElimError: A row holds NaN or +inf, or no finite logit; or a target is not in the vocabulary. On
                a device it is raised when results come back, see ``check``.
        """
        masked = not logits.is_cpu if masked is None else masked
        vocab = logits.shape[1]
        highest = logits.amax(-1, keepdim=True).to(dtype)  # NaN if any logit of the row is
        lost = ((targets >= vocab) | (targets < -1)).any()
        if not masked:
            check(~torch.isfinite(highest[:, 0]), lost, vocab)
        elif targets.is_cpu:
            check(torch.zeros(1, dtype=torch.bool), lost, vocab)
            targets = sent(targets, logits.device)
        else:  # an id that does not exist would end the process there
            targets = targets.clamp(min=-1, max=vocab - 1)
        scores = logits.to(dtype)
        alive = (scores.gather(1, targets.clamp(min=0)) > NEG_INF) & (targets >= 0)
        begun = Candidates(
            scores,
            None,
            targets.masked_fill(~alive, -1),
            vocab,
            torch.full((logits.shape[0],), vocab, dtype=torch.int64, device=logits.device),
            sequential=sequential,
            compiled=compiled,
            wanted=targets,
            masked=masked,
            ranked=Ranked(scores) if masked else None,
            holes=False,
        )
        begun.__dict__["top"] = highest  # what the cached property would compute again
        if masked:
            begun.__dict__["unchecked"] = (~torch.isfinite(highest[:, 0]), lost)
        return begun

    @cached_property
    def unchecked(self) -> tuple[Bool[Tensor, " rows"], Bool[Tensor, ""]] | None:
        """What ``check`` takes, where it has not been looked at yet; ``None`` where there is nothing to."""
        return None

    @cached_property
    def here(self) -> Candidates:
        """The same tokens on the host, fetched once for all chains that have to run there."""
        if not self.masked:
            return self
        wanted = self.slots[:, :0] if self.wanted is None else self.wanted
        # ids are whole numbers, which float64 holds
        found = torch.from_numpy(array(torch.cat([self.wide(), wanted.to(self.scores)], 1)))
        logits, targets = found[:, : self.vocab].contiguous(), found[:, self.vocab :].long()
        return Candidates.of(logits, targets, compiled=self.compiled, masked=False)

    def on(self, device: torch.device) -> Candidates:
        """Send the tokens to a device without a wait; those that are on it already stay."""
        if self.scores.device == device:
            return self

        def there(tensor: Tensor) -> Tensor:
            return sent(tensor.contiguous(), device)

        scores = there(self.scores)
        return replace(
            self,
            scores=scores,
            tokens=None if self.tokens is None else there(self.tokens),
            slots=there(self.slots),
            size=there(self.size),
            wanted=None if self.wanted is None else there(self.wanted),
            total=None,
            masked=True,
            may_be_empty=not self.filled,
            ranked=Ranked(scores) if self.tokens is None else None,
        )

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
        if self.order == "falling" and (self.masked or self.width >= FEW):
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
        slots = self.slots.masked_fill(dead, -1)
        ranked, holes = self.ranked, self.holes
        if not keeps_order and ranked is not None:
            ranked, holes = Ranked(scores), False
        fresh = replace(self, scores=scores, order=order, slots=slots, total=None, ranked=ranked, holes=holes)
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

    def keep(
        self,
        mask: Bool[Tensor, "rows width"],
        size: Int[Tensor, " rows"] | None = None,
        most: int | None = None,
    ) -> Candidates:
        """Remove every column outside ``mask``.

        Args:
            mask: Columns to keep; it may include removed tokens.
            size: Length of the engine's array afterwards; default: the survivors.
            most: Number of columns that the mask has at most in a row, if that is known without looking.
        """
        mask = mask if self.whole else mask & self.alive
        n = tally(mask)
        size = n if size is None else torch.maximum(size, n)
        if self.masked:
            fresh = hidden(self, mask, n, size, most)
            fresh.__dict__["n"] = n
            return fresh
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
        return replace(
            self,
            scores=scores,
            tokens=None,
            slots=slots,
            size=size,
            order="id",
            total=None,
            ranked=Ranked(scores) if self.masked else None,
            holes=False,
        )

    def stocked(self, empty: Bool[Tensor, " rows"]) -> Candidates:
        """Put a token into rows that have none, so that no stage is shown a row without survivors."""
        scores = self.scores.clone()
        scores[:, 0].masked_fill_(empty, 0.0)
        return replace(self, scores=scores)

    def doubted(self) -> Candidates:
        """Remember that a row may be without a token from here on."""
        return self if self.may_be_empty else replace(self, may_be_empty=True)._inherit(self)

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


def check(bad: Bool[Tensor, " rows"], lost: Bool[Tensor, ""], vocab: int) -> None:
    """Refuse logits and targets that no chain can run on.

    Args:
        bad: Rows without a finite maximum.
        lost: Whether a target is no token.
        vocab: Size of the vocabulary.

    Raises:
        ElimError: A row holds NaN or +inf, or no finite logit; or a target is not in the vocabulary.
    """
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ElimError(f"row {row} of the logits holds NaN, +inf, or no finite value at all")
    if bool(lost):
        raise ElimError(f"`targets` must be token ids from 0 to {vocab - 1}, or -1 for none")
