"""Tell at which temperatures targets are among the tokens that stages keep of a falling order of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, log

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from elimtool.samplers.edges import LEAST, ROOM, Temperatures, ceiling, least
from elimtool.samplers.epsilon import Epsilon
from elimtool.samplers.greedy import Greedy
from elimtool.samplers.min_p import MinP
from elimtool.samplers.order import FEW, Array
from elimtool.samplers.stage import Stage
from elimtool.samplers.top_a import TopA
from elimtool.samplers.top_k import TopK
from elimtool.samplers.top_p import TopP


@dataclass(frozen=True, eq=False)
class Falling:
    """Survivors of some rows by falling logit at the temperature stage, and targets among them.

    Sums run from the best survivor on, so that none depends on how many columns lie behind the survivors.

    Attributes:
        logits: Logits, shifted so that the best is 0; ``-inf`` behind the survivors.
        row: Row of each target.
        n: Number of survivors in the row of each target.
        slots: Index of each target among them.
        peak: Temperature at which each target is most probable, where that has been found; else infinity.
    """

    logits: Float64[Tensor, "rows width"]
    row: Int[Tensor, " targets"]
    n: Int[Tensor, " targets"]
    slots: Int[Tensor, " targets"]
    peak: Temperatures

    @cached_property
    def own(self) -> Float64[Tensor, "rows width"]:
        """The logits of each target's row; one row if all have the same."""
        return self.logits if len(self.logits) == 1 else self.logits[self.row]

    @cached_property
    def depths(self) -> Float64[Tensor, "rows width"]:
        """Distance of every logit from the best, rising."""
        return -self.own

    @cached_property
    def gap(self) -> Temperatures:
        """Distance of each target's logit from the best, >= 0."""
        return -self.logits[self.row, self.slots]

    @cached_property
    def tied(self) -> Int[Tensor, " targets"]:
        """Index of the first token with the logit of each target."""
        return self._nearer(self.gap)

    def of(self, which: Int64[Tensor, " some"]) -> Falling:
        """Select some targets."""
        row, n, slots, peak = (one[which] for one in (self.row, self.n, self.slots, self.peak))
        found = Falling(self.logits, row, n, slots, peak)
        found.__dict__["_room"] = self._room
        return found

    def interval(self, stages: Sequence[Stage]) -> tuple[Temperatures, Temperatures]:
        """Return the temperatures between which targets survive: (0, inf) = all, (inf, inf) = none."""
        if not stages or not isinstance(stages[0], Epsilon):
            return self._least(stages), torch.full_like(self.gap, inf)
        low, high = self._probable(stages[0])
        return torch.maximum(low, self._least(stages[1:])), high

    def _least(self, stages: Sequence[Stage]) -> Temperatures:
        """Return the least T at which targets are in the surviving prefix: 0 = every T, infinity = none."""
        if not stages:
            return torch.zeros_like(self.gap)
        factors = [s.p for s in stages if isinstance(s, MinP) and s.min_keep <= 1 and s.p < 1]
        if len(factors) == len(stages):  # min-p has a closed form: gap / T <= -ln p
            return self.gap / -log(max(factors)) * (1 + ROOM)
        return least(self, lambda some, t: some.slack(stages, t))

    def slack(self, stages: Sequence[Stage], t: Temperatures) -> Temperatures:
        """Return how far targets are inside the surviving prefix at a temperature each; it grows with T."""
        full = any(getattr(stage, "mass_of", "") == "full" for stage in stages)
        length, found = self.n, torch.full_like(t, inf)
        masses = [stage for stage in stages if isinstance(stage, TopA | TopP)]
        for stage in stages:
            if stage in masses[:1]:  # summed over what is left, which may be little
                running = self._weights(t, self.n if full else length).cumsum_(-1)
            if isinstance(stage, TopA | TopP):
                whole = _upto(running, self.n if getattr(stage, "mass_of", "") == "full" else length)
            if isinstance(stage, MinP | TopA):
                edge = (
                    torch.full_like(t, log(stage.p)) if isinstance(stage, MinP) else (stage.a / whole).log()
                )
                own, kept = -self.gap / t - edge, self._nearer(-edge * t, right=True)
            elif isinstance(stage, TopP):
                own = stage.p - _upto(running, self.tied if stage.ties == "all" else self.slots) / whole
                kept = torch.searchsorted(running, (stage.p * whole)[:, None])[:, 0] + 1
            else:
                kept = torch.ones_like(self.n) if isinstance(stage, Greedy) else self._reach(stage)
                own = torch.where(self.slots < kept, inf, -inf)
            fewest = max(1, getattr(stage, "min_keep", 0))
            found = torch.where(self.slots >= fewest, torch.minimum(found, own), found)
            length = torch.minimum(length, kept.clamp(min=fewest))
        return found

    def _reach(self, stage: Stage) -> Int[Tensor, " targets"]:
        """Return how many tokens a top-k keeps at any T."""
        if not isinstance(stage, TopK):
            raise TypeError(f"{stage.name} is not supported here")
        k = self.n.clamp(max=max(stage.k, stage.min_keep))
        return k if stage.ties == "exact" else self._nearer(-self.logits[self.row, k - 1], right=True)

    def _probable(self, stage: Epsilon) -> tuple[Temperatures, Temperatures]:
        """Return the temperatures between which targets have at least a probability; (inf, inf) = none.

        The probability rises with T until the mean logit falls to the target's own, then falls towards
        uniform.
        """

        def past_peak(some: Falling, t: Temperatures) -> Temperatures:
            weights = some._weights(t, some.n)
            own = some.own[:, : weights.shape[1]].masked_fill(weights == 0, 0.0)
            return -some.gap - _total(weights * own) / _total(weights)

        def slack(some: Falling, t: Temperatures) -> Temperatures:
            return -some.gap / t - _total(some._weights(t, some.n)).log() - log(stage.epsilon)

        peak = torch.minimum(least(self, past_peak).clamp(min=LEAST), ceiling(self.gap))
        parted = replace(self, peak=peak)
        low = least(parted, lambda some, t: slack(some, torch.minimum(t, some.peak)))
        beyond = least(parted, lambda some, t: -slack(some, torch.maximum(t, some.peak)) - 1e-300)
        always = -self.gap >= self.logits[self.row, self.n.clamp(max=stage.min_keep) - 1]
        never = ~always & (slack(self, peak) < 0)
        low = low.masked_fill(always, 0.0).masked_fill(never, inf)
        return low, (beyond * (1 - 4 * ROOM)).masked_fill(always | never, inf)

    def _nearer(self, depth: Temperatures, *, right: bool = False) -> Int[Tensor, " targets"]:
        """Count the survivors nearer to the best than given; with ``right``, also those that are as near."""
        if len(self.depths) == 1:
            return torch.searchsorted(self.depths[0], depth, right=right)
        return torch.searchsorted(self.depths, depth[:, None], right=right)[:, 0]

    def _weights(self, t: Temperatures, count: Int[Tensor, " targets"]) -> Float64[Tensor, "targets width"]:
        """Return ``exp(logit / T)`` of the first survivors, at a temperature for each target.

        On the processor they are valid until the next are asked for.
        """
        if not t.is_cpu:
            return torch.exp(self.own / t[:, None])
        # no further than asked for, by numpy, which takes half as long as torch, into memory that was used
        # before, as being handed new pages may take longer than the sums
        logits = self.own[:, : int(count.max())].numpy()
        found = self._room[: len(t) * logits.shape[1]].reshape(len(t), -1)
        np.divide(logits, t.numpy()[:, None], out=found)
        return torch.from_numpy(np.exp(found, out=found))

    @cached_property
    def _room(self) -> Array:
        """Memory for the weights at one temperature."""
        return np.empty(self.n.numel() * self.logits.shape[1])


def _total(weights: Float64[Tensor, "targets width"]) -> Temperatures:
    """Sum weights; few of them in turn, so that no sum depends on the width."""
    return weights.sum(-1) if weights.shape[1] >= FEW else weights.cumsum(-1)[:, -1]


def _upto(running: Float64[Tensor, "targets width"], count: Int[Tensor, " targets"]) -> Temperatures:
    """Read the sum of the first so many weights."""
    last = (count - 1).clamp(0, running.shape[1] - 1)
    return running.gather(1, last[:, None])[:, 0].masked_fill(count < 1, 0.0)
