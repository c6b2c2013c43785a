"""Compare numbers of two maps that are sums over sums, such as what heads keep, with intervals and tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from elimtool.analysis.map.sums import TEXT, Array, Sums
from elimtool.analysis.map.units import ASSIGNMENTS, FEWEST_ROWS, SEED
from elimtool.analysis.statistics.base import BOOTSTRAP, FLIPS, LEVEL, ROUNDING, generator
from elimtool.analysis.statistics.bootstrap import RESAMPLES, draw_weights
from elimtool.analysis.statistics.families import benjamini_hochberg
from elimtool.analysis.statistics.flips import assignments, exhausts


@dataclass(frozen=True)
class Ratios:
    """A measure on both sides, by unit what its numerator and denominator sum up; units are pairs.

    Attributes:
        name: Its name.
        over: Of A and of B, [2, units, ...].
        under: Likewise.
        known: Which of the numbers count, [...].
    """

    name: str
    over: Array
    under: Array
    known: Array

    @cached_property
    def scores(self) -> Array:
        """The ratios of A and of B, [2, known]."""
        return self._divided(self._picked(self.over).sum(1), self._picked(self.under).sum(1))

    def ends(self) -> tuple[Array, Array]:
        """Return both ends of the 95 % interval of B minus A, [known]: pairs are drawn anew."""
        over, under = self._picked(self.over), self._picked(self.under)
        drawn = []
        for weights in draw_weights(over.shape[1], RESAMPLES, generator(SEED, BOOTSTRAP)):
            a, b = (self._divided(weights @ over[side], weights @ under[side]) for side in (0, 1))
            drawn.append(b - a)
        low, high = np.nanquantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return low, high

    def tested(self) -> tuple[Array, Array]:
        """Return p and q of B minus A, [known]: the sides of whole pairs are exchanged.

        If both sides are alike, which text is A's and which B's does not matter: every exchange is as likely.
        """
        over, under = self._picked(self.over), self._picked(self.under)
        whole = over.sum((0, 1)), under.sum((0, 1))
        apart = over[1] - over[0], under[1] - under[0]
        size = np.abs(self.scores[1] - self.scores[0])
        near = ROUNDING * np.abs(self.scores).sum(0)
        hits, tried = np.zeros(over.shape[-1]), 0
        for signs in assignments(over.shape[1], generator(SEED, FLIPS), ASSIGNMENTS):
            above, below = (signs @ one for one in apart)
            b = self._divided(whole[0] + above, whole[1] + below)
            a = self._divided(whole[0] - above, whole[1] - below)
            hits += (np.abs(b - a) >= size - near).sum(0)
            tried += len(signs)
        extra = 0 if exhausts(over.shape[1], ASSIGNMENTS) else 1
        p: Array = (extra + hits) / (extra + tried)
        return p, benjamini_hochberg(p)

    def _picked(self, values: Array) -> Array:
        return values[:, :, self.known]

    @staticmethod
    def _divided(over: Array, under: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Array = over / under
        return found


def of_category(a: Sums, b: Sums, units: tuple[list[int], list[int]], name: str, index: int) -> Ratios:
    """Read what heads keep of one category: attention on it over what their distances explain.

    Args:
        a: One map.
        b: The other.
        units: Passages of each, in pairs.
        name: The category.
        index: Its place on the last axis of the sums.
    """
    over, under = (_both(a, b, units, "categories", one)[..., index] for one in ("found", "expected"))
    return Ratios(name, over, under, _known(a, b, units, "categories") & (under.sum(1) > 0).all(0))


def of_reach(a: Sums, b: Sums, units: tuple[list[int], list[int]]) -> Ratios:
    """Read how far heads look: the mean distance, weighed by attention over what even attention gives."""
    lift = _both(a, b, units, "distances", "lift")
    over = lift @ np.arange(lift.shape[-1], dtype=np.float64)
    under = lift.sum(-1)
    return Ratios("reach", over, under, _known(a, b, units, "distances") & (under.sum(1) > 0).all(0))


def _both(a: Sums, b: Sums, units: tuple[list[int], list[int]], part: str, name: str) -> Array:
    return np.stack([sums.each(part, name, TEXT)[some] for sums, some in zip((a, b), units, strict=True)])


def _known(a: Sums, b: Sums, units: tuple[list[int], list[int]], part: str) -> Array:
    """Tell which heads have enough rows on both sides, [layers, heads]."""
    known: Array = (_both(a, b, units, part, "rows").sum(1) >= FEWEST_ROWS).all(0)
    return known
