"""Compute bootstrap intervals and permutation p-values of mean differences, from one sum per unit."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

RESAMPLES = 2000
"""Bootstrap resamples."""
FLIPS = 10_000
"""Random sign assignments; if the units have no more than this in all, each is tried once."""
LEVEL = 0.95
"""Confidence level of intervals."""
AT_ONCE = 4_000_000
"""Weights held in memory at a time: resamples times units."""
ROUNDING = 1e-12
"""Relative difference below which two sums count as equal, so that ties do not depend on rounding."""


class MeanDifference(NamedTuple):
    """The mean of a metric's differences over pairs, and how certain it is.

    Attributes:
        mean_difference: Mean of B minus A.
        ci_low: Lower end of its 95 % interval; ``None`` for fewer than two units.
        ci_high: Upper end.
        p_value: Two-sided p-value of a mean this far from 0; ``None`` for fewer than two units.
        method: ``bca`` or ``percentile``; ``None`` for fewer than two units.
    """

    mean_difference: float
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    method: str | None


def resample(sums: Values, counts: Values, seed: int) -> list[MeanDifference]:
    """Test several metrics on the same units.

    The interval is bias-corrected and accelerated (Efron 1987), over units; if the resamples do not define
    bias or skew (all are equal) it is the percentile interval. The p-value is of a permutation test that
    flips the signs of whole units, exact for at most ``FLIPS`` assignments, else (1 + hits) / (1 + draws).
    Swapping the sides negates mean and interval and keeps the p-value.

    Args:
        sums: [units, metrics] sum of the differences of a unit's pairs.
        counts: [units, metrics] number of the unit's pairs that have the metric.
        seed: Seed of both; metrics on the same units share their draws.
    """
    found: dict[int, MeanDifference] = {}
    for metrics in _alike(counts):
        present = counts[:, metrics[0]] > 0
        some, sizes = sums[np.ix_(present, metrics)], counts[np.ix_(present, metrics)]
        found.update(zip(metrics.tolist(), _test(some, sizes, seed), strict=True))
    return [found[index] for index in range(sums.shape[1])]


def _alike(counts: Values) -> Iterator[npt.NDArray[np.intp]]:
    """Group the metrics by the units that have them."""
    _, group = np.unique(counts > 0, axis=1, return_inverse=True)
    for number in range(int(group.max()) + 1):
        yield np.flatnonzero(group == number)


def _test(sums: Values, sizes: Values, seed: int) -> list[MeanDifference]:
    """Test metrics that all units have."""
    units, metrics = sums.shape
    totals, pairs = sums.sum(0), sizes.sum(0)
    means = totals / pairs
    if units < 2:
        return [MeanDifference(float(mean), None, None, None, None) for mean in means]
    draws = np.concatenate(
        [(weights @ sums) / (weights @ sizes) for weights in _bootstrap(units, np.random.default_rng(seed))]
    )
    left_out = (totals - sums) / (pairs - sizes)  # jackknife means, for the acceleration
    p_values = _sign_flips(sums, totals, np.random.default_rng([seed, 1]))
    tested = []
    for index in range(metrics):
        low, high, method = _interval(draws[:, index], float(means[index]), left_out[:, index])
        tested.append(MeanDifference(float(means[index]), low, high, float(p_values[index]), method))
    return tested


def _bootstrap(units: int, random: np.random.Generator) -> Iterator[Values]:
    """Count how often each unit is drawn, [resamples, units], in batches that fit in memory."""
    step = max(1, AT_ONCE // units)
    for start in range(0, RESAMPLES, step):
        some = min(step, RESAMPLES - start)
        # offsets make one bincount serve all resamples of the batch
        drawn = random.integers(units, size=(some, units)) + units * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * units).reshape(some, units).astype(float)


def _interval(draws: Values, mean: float, left_out: Values) -> tuple[float, float, str]:
    """Compute the BCa interval of one mean; draws equal to it up to rounding count half to each side."""
    near = ROUNDING * max(abs(mean), float(np.abs(draws).max()))
    below = float((draws < mean - near).mean() + (np.abs(draws - mean) <= near).mean() / 2)
    spread = left_out.mean() - left_out
    squares = float((spread**2).sum())
    normal = NormalDist()
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    if not 0 < below < 1 or squares <= near**2:
        low, high = np.quantile(draws, tails)
        return float(low), float(high), "percentile"
    bias = normal.inv_cdf(below)
    skew = float((spread**3).sum()) / (6 * squares**1.5)
    moved = [bias + normal.inv_cdf(tail) for tail in tails]
    low, high = np.quantile(draws, [normal.cdf(bias + one / (1 - skew * one)) for one in moved])
    return float(low), float(high), "bca"


def _sign_flips(sums: Values, totals: Values, random: np.random.Generator) -> Values:
    """Compute two-sided p-values of the totals under random signs of the units."""
    units = len(sums)
    near = ROUNDING * np.abs(sums).sum(0)
    if 2**units <= FLIPS:
        bits = np.arange(2**units)[:, None] >> np.arange(units) & 1
        flipped = np.abs((1.0 - 2 * bits) @ sums)
        exact: Values = (flipped >= np.abs(totals) - near).mean(0)
        return exact
    hits = np.zeros(sums.shape[1])
    step = max(1, AT_ONCE // units)
    for start in range(0, FLIPS, step):
        signs = 1.0 - 2 * random.integers(2, size=(min(step, FLIPS - start), units))
        hits += (np.abs(signs @ sums) >= np.abs(totals) - near).sum(0)
    p_values: Values = (1 + hits) / (1 + FLIPS)
    return p_values


def adjusted(p_values: Values) -> Values:
    """Adjust p-values for the false discovery rate over a family.

    Source: Benjamini and Hochberg 1995, the step-up procedure.
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    ranks = np.arange(count, 0, -1)
    stepped = np.minimum.accumulate(p_values[order] * count / ranks)
    found = np.empty(count)
    found[order] = np.minimum(stepped, 1.0)
    return found
