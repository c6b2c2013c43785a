"""Search many variants for the best and the worst with few calls: successive halving, Thompson sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
import numpy.typing as npt

from elimtool.analysis.statistics.base import SEARCHES, generator
from elimtool.errors import ElimError, nearest

Values = npt.NDArray[np.float64]
Score = Callable[[npt.NDArray[np.intp], int, int], Values]
"""Scores variants (indices) on the items from one index up to another: [variants, items]."""
SEARCHED = ("halving", "thompson")
"""Searches by name."""
PULL = 20
"""Items that Thompson sampling scores at a time."""
PRIOR = 5.0
"""Pseudo-count of misses of its prior."""
LEAST_HITS = 1.1


@dataclass(frozen=True, slots=True)
class FoundEnds:
    """What a search found.

    Attributes:
        best: Index of the best variant.
        worst: Index of the worst.
        values: [variants, items] outcomes, NaN where none was asked for; of each variant the first ones.
        holdout: Mean of the best minus mean of the worst over the items that neither had been scored on when
            they were picked: below 0 where the worst is better there. ``None`` where no item is left.
    """

    best: int
    worst: int
    values: Values
    holdout: float | None

    @property
    def n_calls(self) -> int:
        """Number of outcomes that were asked for."""
        return int((~np.isnan(self.values)).sum())

    @property
    def spread(self) -> float:
        """Mean of the best minus mean of the worst over all items."""
        return abs(float((self.values[self.best] - self.values[self.worst]).mean()))


def check_search(kind: str, outcome: str) -> None:
    """Refuse a search that does not exist, or that cannot score an outcome.

    Raises:
        ElimError: It is not in ``SEARCHED``, or it is ``thompson`` and the outcome is not a share.
    """
    if kind not in SEARCHED:
        raise ElimError(f"`search` '{kind}' is not valid", nearest(kind, SEARCHED))
    if kind == "thompson" and outcome != "survives":
        raise ElimError(
            f"`search` thompson draws from shares, and `outcome` {outcome} is none", "use `search` halving"
        )


def search(
    kind: str, score: Score, variants: int, items: int, budget: int, best: int = 1, seed: int = 0
) -> FoundEnds:
    """Search for the best and the worst variant; both are scored on all items in the end.

    Args:
        kind: ``halving`` or ``thompson``.
        score: Scores variants on items.
        variants: Number of variants, two or more.
        items: Number of items.
        budget: Outcomes that may be asked for, those of the two at the end included.
        best: 1 where larger is better, -1 where smaller is.
        seed: Seed of Thompson sampling.

    Raises:
        ElimError: The budget is too small to look at each variant once.
    """
    least = variants + 2 * items
    if budget < least:
        raise ElimError(
            f"`budget` must be {least:,} or more: {variants:,} variants once, and two on all {items:,} items,"
            f" got {budget:,}",
            "leave it out to score all, or use fewer items",
        )
    values = np.full((variants, items), np.nan)
    ask = _Asking(score, values, best)
    spend = budget - 2 * items
    ends = _halving(ask, spend) if kind == "halving" else _thompson(ask, spend, seed)
    if ends[0] == ends[1]:
        ends = ends[0], _other(ask, ends[0])
    picked = int(ask.counts(np.array(ends)).max())
    for one in ends:
        ask.up_to(np.array([one]), items)
    apart = best * (values[ends[0]] - values[ends[1]])
    holdout = float(apart[picked:].mean()) if picked < items else None
    if apart.mean() < 0:  # all items told them apart the other way round
        ends = ends[::-1]
    return FoundEnds(*ends, values, holdout)


@dataclass(frozen=True, slots=True)
class _Asking:
    """Asks for outcomes, in order of items, and remembers them."""

    score: Score
    values: Values
    best: int

    def up_to(self, arms: npt.NDArray[np.intp], stop: int) -> None:
        """Score variants on the first items, as far as they are not."""
        done = self.counts(arms)
        for start in np.unique(done):
            some = arms[done == start]
            if start < stop:
                self.values[some, start:stop] = self.score(some, int(start), stop)

    def counts(self, arms: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Number of items that each was scored on."""
        found: npt.NDArray[np.intp] = (~np.isnan(self.values[arms])).sum(1)
        return found

    def means(self, arms: npt.NDArray[np.intp]) -> Values:
        """Mean of each, larger for better ones."""
        found: Values = self.best * np.nanmean(self.values[arms], axis=1)
        return found


def _other(ask: _Asking, one: int) -> int:
    """Return the worst of the variants but one; where no other was scored, the next."""
    scored = np.flatnonzero(ask.counts(np.arange(len(ask.values))))
    others = scored[scored != one]
    return int(others[ask.means(others).argmin()]) if len(others) else (one + 1) % len(ask.values)


def _halving(ask: _Asking, budget: int) -> tuple[int, int]:
    """Halve the candidates for the best and those for the worst in rounds of equal budget.

    Source: Karnin, Koren and Somekh 2013, "Almost optimal exploration in multi-armed bandits".
    """
    variants, items = ask.values.shape
    rounds = ceil(log2(variants))
    good = bad = np.arange(variants)
    reached = 0
    for left in range(rounds, 0, -1):
        alive = np.union1d(good, bad)
        spent = int((~np.isnan(ask.values)).sum())
        reached = min(items, reached + max((budget - spent) // left // len(alive), 0 if reached else 1))
        ask.up_to(alive, reached)
        good = _first(good, -ask.means(good))
        bad = _first(bad, ask.means(bad))
    return int(good[0]), int(bad[0])


def _first(arms: npt.NDArray[np.intp], keys: Values) -> npt.NDArray[np.intp]:
    """Keep the half with the smallest keys."""
    order = np.argsort(keys, kind="stable")
    return arms[order[: ceil(len(arms) / 2)]]


def _thompson(ask: _Asking, budget: int, seed: int) -> tuple[int, int]:
    """Draw from Beta posteriors, and score the variant with the largest draw on its next items.

    Source: Sclar et al. 2024 (FormatSpread), ``format_evaluation.py``: half of the budget for the best, half
    for the worst; a prior with 5 misses and as many hits as the first variant's accuracy asks for.
    """
    random = generator(seed, SEARCHES)
    variants, items = ask.values.shape
    everything = np.arange(variants)
    ask.up_to(everything[:1], min(PULL, items))
    ends = []
    for sign in (1, -1):
        yes, no = _tally(ask, sign)
        rate = float(np.clip(yes[0] / (yes[0] + no[0]), 0.01, 0.99))
        hits = max(PRIOR * rate / (1 - rate), LEAST_HITS)
        stop = int((~np.isnan(ask.values)).sum()) + (budget - PULL) // 2
        while int((~np.isnan(ask.values)).sum()) + PULL <= stop:
            yes, no = _tally(ask, sign)
            draws = random.beta(hits + yes, PRIOR + no)
            draws[ask.counts(everything) >= items] = -1.0
            chosen = int(draws.argmax())
            if draws[chosen] < 0:
                break
            ask.up_to(everything[chosen : chosen + 1], min(items, int(ask.counts(everything)[chosen]) + PULL))
        yes, no = _tally(ask, sign)
        ends.append(int(((hits + yes) / (hits + yes + PRIOR + no)).argmax()))
    return ends[0], ends[1]


def _tally(ask: _Asking, sign: int) -> tuple[Values, Values]:
    """Hits and misses of each variant, for the best or for the worst."""
    yes, count = np.nansum(ask.values, axis=1), ask.counts(np.arange(len(ask.values)))
    hits: Values = yes if sign * ask.best > 0 else count - yes
    return hits, count - hits
