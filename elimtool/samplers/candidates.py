"""Hold the working distribution of a chain: the tokens still in play and their scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.numerics.ranking import largest, top
from elimtool.samplers.layout import compacted, in_order
from elimtool.samplers.order import FEW, count_larger, larger, softmax, sum_products, tally

if TYPE_CHECKING:
    from elimtool.numerics.kernels.rows import RowStatistics

Order = Literal["id", "falling", "none"]
"""Order of columns: by token id, by falling score (the lower id first among ties), or none."""

NEG_INF = float("-inf")

LEADERS = 64
"""Number of largest scores found at once; engines' usual top-k need no more."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scores of the tokens still in play, for a batch of rows; never edited in place.

    A score of ``-inf`` is a removed token or padding. Columns need not be token ids: after a cut only the
    survivors are stored, so that the cost of later stages depends on them and not on the vocabulary.

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
        )
        begun.__dict__["top"] = highest  # what the cached property would compute again
        return begun

    def led_by(self, tokens: Int[Tensor, "rows some"]) -> None:
        """Take over which tokens have the largest scores of each row, falling, where that is known."""
        self.__dict__["_leaders"] = self.scores.gather(1, tokens)

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
        if not self.compiled or self.tokens is not None or self.scores.dtype != torch.float64:
            return None
        from elimtool.numerics.kernels.rows import measured

        return measured(self.scores.numpy(), self.top[:, 0].numpy(), self.slots.numpy())

    @cached_property
    def n(self) -> Int[Tensor, " rows"]:
        """Number of survivors, 1 .. vocab."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.left)
        return tally(self.alive)

    @cached_property
    def whole(self) -> bool:
        """Whether every column holds a survivor."""
        return int(self.n.min()) == self.width

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
        """Shannon entropy of the survivors in nats."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.entropy)
        # H = ln Z - sum p l, with the best score as the origin
        weighted = sum_products(self.exact, (self.scores - self.top).double(), self.alive)
        return (-weighted - self.top_prob.log()).clamp(min=0.0)

    @cached_property
    def top_prob(self) -> Float64[Tensor, " rows"]:
        """Probability (float64) of the most probable survivor."""
        if self.measured is not None:
            return torch.from_numpy(self.measured.top_prob)
        return self.exact.amax(-1)

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
        return self.after(self.size.new_full(self.size.shape, k - 1))

    def after(self, count: Int[Tensor, " rows"]) -> Float[Tensor, "rows 1"]:
        """Return each row's (count + 1)-th largest score, ``-inf`` where there is none."""
        count = count[:, None]
        none = count >= self.width
        count = count.masked_fill(none, 0)
        known = self.scores if self.order == "falling" else self._leaders
        if int(count.max()) >= known.shape[1]:
            known = largest(self.scores, int(count.max()) + 1)
        return known.gather(1, count).masked_fill(none, NEG_INF)

    @cached_property
    def _leaders(self) -> Float[Tensor, "rows leaders"]:
        """Largest scores of each row, falling."""
        return largest(self.scores, LEADERS)

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

    def column(self, token: int, row: int) -> int | None:
        """Return the column of a surviving token in a row; ``None`` for a removed one."""
        alive = self.alive.numpy()[row]
        if self.tokens is None:
            return token if alive[token] else None
        found = np.flatnonzero(alive & (self.tokens.numpy()[row] == token))
        return int(found[0]) if len(found) else None

    def located(
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
        width = int(n.max())
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

    def wide(self) -> Float[Tensor, "rows vocab"]:
        """Return the scores by token id, ``-inf`` for removed tokens."""
        if self.tokens is None:
            return self.scores
        spread = self.scores.new_full((self.scores.shape[0], self.vocab), NEG_INF)
        rows, columns = self.alive.nonzero(as_tuple=True)
        spread[rows, self.tokens[rows, columns]] = self.scores[rows, columns]
        return spread

    def _inherit(self, other: Candidates) -> Candidates:
        """Take over what another object with the same scores in the same columns has computed."""
        for name, value in other.__dict__.items():
            if name not in self.__dict__ and name != "_in_order":  # that one has other sizes and totals
                self.__dict__[name] = value
        return self
