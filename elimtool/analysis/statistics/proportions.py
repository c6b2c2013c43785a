"""Compute intervals of shares, of differences of paired shares, and of means over clusters."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np

from elimtool.analysis.statistics.base import LEVEL, Values, t_quantile


def wilson(hits: float, n: float, at_once: int = 1) -> tuple[float, float]:
    """Compute the 95 % score interval of a share.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Args:
        hits: Number of successes, 0 .. n.
        n: Number of trials, above 0.
        at_once: Number of intervals that must hold together (Bonferroni), such as of the worst of many.

    Returns:
        Both ends, in 0 .. 1.
    """
    z = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / at_once)
    share = hits / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # at the ends the limits are 0 and 1, which rounding would miss
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == n else middle + half)


def newcombe(both: float, first: float, second: float, neither: float) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two paired shares, first minus second.

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions
    based on paired data", method 10.

    Args:
        both: Pairs in which both are yes.
        first: Pairs in which the first alone is.
        second: Pairs in which the second alone is.
        neither: Pairs in which neither is.

    Returns:
        Both ends, in -1 .. 1.
    """
    n = both + first + second + neither
    p1, p2 = (both + first) / n, (both + second) / n
    (l1, u1), (l2, u2) = wilson(both + first, n), wilson(both + second, n)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    cross = both * neither - first * second
    if cross > 0:
        cross = max(cross - n / 2, 0)
    phi = cross / sqrt(margins) if margins > 0 else 0.0
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return p1 - p2 - sqrt(max(below, 0)), p1 - p2 + sqrt(max(above, 0))


def t_interval(values: Values | Sequence[float]) -> tuple[float, float]:
    """Compute the 95 % interval of a mean over clusters by Student's t.

    Args:
        values: [clusters] the mean of each, two or more.
    """
    found = np.asarray(values, dtype=float)
    half = t_quantile((1 + LEVEL) / 2, len(found) - 1) * float(found.std(ddof=1)) / sqrt(len(found))
    return float(found.mean()) - half, float(found.mean()) + half
