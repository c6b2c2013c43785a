"""Compute bootstrap intervals of means, bias-corrected and accelerated (BCa)."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from statistics import NormalDist

import numpy as np

from elimtool.analysis.statistics.base import AT_ONCE, BOOTSTRAP, LEVEL, ROUNDING, Values, generator

RESAMPLES = 2000
"""Bootstrap resamples."""


def bootstrap_intervals(values: Values, seed: int) -> list[tuple[float, float, str]]:
    """Compute the 95 % interval of each column's mean.

    If the resamples do not define bias or skew (all are equal) it is the percentile interval. Columns share
    their draws. Negated values have the negated interval. Both kinds are expanded: tails are those of
    Student's t and of the unbiased standard deviation, without which few units are covered too rarely.

    Source: Efron 1987, "Better bootstrap confidence intervals"; Hesterberg 2015, "What teachers should know
    about the bootstrap", for the expansion.

    Args:
        values: [units, metrics], two units or more.
        seed: Seed of the draws.

    Returns:
        For each metric the two ends and ``bca`` or ``percentile``.
    """
    units = len(values)
    draws = np.concatenate(
        [weights @ values / units for weights in draw_weights(units, RESAMPLES, generator(seed, BOOTSTRAP))]
    )
    means = values.mean(0)
    left_out = (values.sum(0) - values) / (units - 1)  # jackknife means, for the acceleration
    tail = expanded_tail(units)
    return [
        _interval(draws[:, index], float(means[index]), left_out[:, index], tail)
        for index in range(values.shape[1])
    ]


def expanded_tail(units: int) -> float:
    """Return the normal quantile whose tails make up for resamples of a mean that are too narrow.

    Resamples of n values have the standard deviation over n, not n - 1, and normal tails, not Student's.

    Args:
        units: Number of units, two or more.
    """
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, units - 1)) * sqrt(units / (units - 1))


def draw_weights(units: int, draws: int, random: np.random.Generator) -> Iterator[Values]:
    """Count how often each unit is drawn, [draws, units], in batches that fit in memory."""
    step = max(1, AT_ONCE // units)
    for start in range(0, draws, step):
        some = min(step, draws - start)
        # offsets make one bincount serve all resamples of the batch
        drawn = random.integers(units, size=(some, units)) + units * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * units).reshape(some, units).astype(float)


def _interval(draws: Values, mean: float, left_out: Values, tail: float) -> tuple[float, float, str]:
    """Compute the BCa interval of one mean; draws equal to it up to rounding count half to each side."""
    near = ROUNDING * max(abs(mean), float(np.abs(draws).max()))
    below = float((draws < mean - near).mean() + (np.abs(draws - mean) <= near).mean() / 2)
    spread = left_out.mean() - left_out
    squares = float((spread**2).sum())
    normal = NormalDist()
    if not 0 < below < 1 or squares <= near**2:
        low, high = np.quantile(draws, [normal.cdf(-tail), normal.cdf(tail)])
        return float(low), float(high), "percentile"
    bias = normal.inv_cdf(below)
    skew = float((spread**3).sum()) / (6 * squares**1.5)
    moved = [bias - tail, bias + tail]
    low, high = np.quantile(draws, [normal.cdf(bias + one / (1 - skew * one)) for one in moved])
    return float(low), float(high), "bca"
