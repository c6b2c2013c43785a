"""Define what all statistics share: the level of intervals, seeds, and quantiles of Student's t."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

LEVEL = 0.95
"""Confidence level of intervals."""
SIGNIFICANT = 0.05
"""Largest p-value that counts as a difference."""
AT_ONCE = 4_000_000
"""Weights held in memory at a time: draws times units."""
ROUNDING = 1e-12
"""Relative difference below which two sums count as equal, so that ties do not depend on rounding."""

BOOTSTRAP, FLIPS, CLUSTERS, ONSETS, SPREADS, LABELS, CHOICES, RECOVERED, SEARCHES = range(9)
"""Purposes of random numbers: each has a stream of its own, so that one more test changes no other."""


def generator(seed: int, purpose: int) -> np.random.Generator:
    """Return the random numbers of one purpose."""
    return np.random.Generator(np.random.PCG64([seed, purpose]))


def t_quantile(share: float, df: int) -> float:
    """Compute the quantile of Student's t with ``df`` degrees of freedom, 1 or more."""
    from scipy.special import stdtrit

    return float(stdtrit(df, share))
