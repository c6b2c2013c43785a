"""Test mean differences over one kind of unit, such as templates, prompts or pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from elimtool.analysis.statistics.base import Values
from elimtool.analysis.statistics.bootstrap import bootstrap_intervals
from elimtool.analysis.statistics.flips import sign_flips
from elimtool.analysis.statistics.proportions import newcombe, t_interval


class MeanDifference(NamedTuple):
    """The mean of a metric's differences over units, and how certain it is.

    Attributes:
        mean_difference: Mean over units of B minus A: each unit counts once.
        ci_low: Lower end of its 95 % interval; ``None`` for fewer than two units.
        ci_high: Upper end.
        p_value: Two-sided p-value of a mean this far from 0; ``None`` for fewer than two units.
        method: ``bca`` or ``percentile``, for shares ``newcombe`` or ``t``; ``None`` for fewer than two.
    """

    mean_difference: float
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    method: str | None


def paired_difference(before: Values, now: Values, seed: int = 0, yes_no: bool = False) -> MeanDifference:
    """Test one metric that was read twice on the same units.

    Args:
        before: [units] first readings.
        now: [units] second readings.
        seed: Seed of interval and p-value.
        yes_no: Whether the readings are truth values, or shares of them.
    """
    first = before if yes_no else np.full_like(before, np.nan)
    return mean_differences((now - before)[:, None], seed, first[:, None])[0]


def mean_differences(differences: Values, seed: int, first: Values) -> list[MeanDifference]:
    """Test several metrics on the same units.

    The interval is BCa over units (``bootstrap_intervals``). A difference of shares has Newcombe's interval
    if each unit says yes or no on either side, or no unit differs; else that of Student's t over units. The
    p-value is of sign flips of units (``sign_flips``). Swapping the sides negates mean and interval and keeps
    the p-value.

    Args:
        differences: [units, metrics] B minus A, a unit's mean over its pairs; NaN where it has none.
        seed: Seed of intervals and p-values; metrics on the same units share their draws.
        first: [units, metrics] share of yes on side A; NaN for metrics that are no shares.
    """
    found: dict[int, MeanDifference] = {}
    for metrics in _alike(~np.isnan(differences)):
        present = ~np.isnan(differences[:, metrics[0]])
        where = np.ix_(present, metrics)
        tested = _tested(differences[where], seed, first[where])
        found.update(zip(metrics.tolist(), tested, strict=True))
    return [found[index] for index in range(differences.shape[1])]


def _alike(known: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.intp]]:
    """Group the metrics by the units that have them."""
    _, group = np.unique(known, axis=1, return_inverse=True)
    for number in range(int(group.max()) + 1):
        yield np.flatnonzero(group == number)


def _tested(differences: Values, seed: int, first: Values) -> list[MeanDifference]:
    """Test metrics that all units have."""
    means = differences.mean(0)
    if len(differences) < 2:
        return [MeanDifference(float(mean), None, None, None, None) for mean in means]
    intervals = bootstrap_intervals(differences, seed)
    p_values = sign_flips(differences, seed)
    return [
        MeanDifference(float(mean), low, high, float(p_value), method)
        for mean, p_value, (low, high, method) in zip(
            means,
            p_values,
            (
                one if np.isnan(first[0, index]) else share_interval(differences[:, index], first[:, index])
                for index, one in enumerate(intervals)
            ),
            strict=True,
        )
    ]


def share_interval(differences: Values, first: Values) -> tuple[float, float, str]:
    """Compute the 95 % interval of a mean difference of paired shares.

    Args:
        differences: [units] B minus A.
        first: [units] share of yes on side A, in 0 .. 1.

    Returns:
        Both ends, and ``newcombe`` or ``t``.
    """
    second = first + differences
    if np.isin([first, second], (0, 1)).all():
        counts = [((second == b) & (first == a)).sum() for b, a in ((1, 1), (1, 0), (0, 1), (0, 0))]
        return *newcombe(*(float(one) for one in counts)), "newcombe"
    if not differences.any():
        return *equal_shares(float(first.mean()), len(first)), "newcombe"
    return *t_interval(differences), "t"


def equal_shares(rate: float, units: int) -> tuple[float, float]:
    """Compute the 95 % interval of a difference of shares where no unit differs: 0 with a width.

    Args:
        rate: Share of yes on either side.
        units: Number of units.
    """
    return newcombe(rate * units, 0.0, 0.0, (1 - rate) * units)
