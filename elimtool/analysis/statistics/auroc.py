"""Measure how well a score tells two kinds of cases apart: the area under the ROC curve, with an interval."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from elimtool.analysis.statistics.base import LEVEL, Values


def auroc(cases: Values, others: Values) -> tuple[float, float, float] | None:
    """Compute the chance that a case scores higher than another one, ties counting half, with 95 % interval.

    Source: DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver
    operating characteristic curves"; the ends are cut at 0 and 1.

    Args:
        cases: [n] scores of the cases that should score high.
        others: [m] scores of the others.

    Returns:
        Area and both ends; ``None`` for fewer than two of either kind.
    """
    if min(len(cases), len(others)) < 2:
        return None
    wins = (np.sign(cases[:, None] - others[None, :]) + 1) / 2
    of_cases, of_others = wins.mean(1), wins.mean(0)
    variance = of_cases.var(ddof=1) / len(cases) + of_others.var(ddof=1) / len(others)
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * float(np.sqrt(variance))
    area = float(wins.mean())
    return area, max(0.0, area - half), min(1.0, area + half)
