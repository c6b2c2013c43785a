"""Test whether a number rises or falls with the order of its measurements."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np

from elimtool.analysis.statistics.base import ROUNDING, Values

EXACT = 8
"""Values up to which all orders are tried."""


def trend(values: Values) -> tuple[float, float] | None:
    """Compute Spearman's rank correlation of values with their order, and its two-sided p-value.

    Exact over all orders for up to ``EXACT`` values, else by Student's t.

    Args:
        values: [n] in order.

    Returns:
        Correlation and p-value; ``None`` for fewer than three values, or where all are equal.
    """
    from scipy.stats import rankdata, spearmanr

    n = len(values)
    ranks = rankdata(values)
    if n < 3 or np.ptp(ranks) == 0:
        return None
    order = np.arange(n) - (n - 1) / 2
    own = float(order @ ranks)
    rho = own / float(np.sqrt((order**2).sum() * ((ranks - ranks.mean()) ** 2).sum()))
    if n > EXACT:
        return rho, float(spearmanr(order, values).pvalue)
    hits = sum(abs(order @ np.array(one)) >= abs(own) * (1 - ROUNDING) for one in permutations(ranks))
    return rho, hits / factorial(n)
