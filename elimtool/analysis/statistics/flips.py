"""Test whether means differ from 0 by flipping the signs of whole units."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from elimtool.analysis.statistics.base import AT_ONCE, FLIPS, ROUNDING, Values, generator

ASSIGNMENTS = 10_000
"""Random sign assignments; if the units have no more than this in all, each is tried once."""


def sign_flips(values: Values, seed: int, most: int = ASSIGNMENTS, one_sided: bool = False) -> Values:
    """Compute p-values of the columns' means.

    Exact for at most ``most`` assignments of signs, else (1 + hits) / (1 + draws). With yes/no
    outcomes and one pair a unit it is McNemar's exact test.

    Args:
        values: [units, metrics] differences.
        seed: Seed of the assignments; columns share them.
        most: Assignments to try.
        one_sided: Count only means that are as large, not those as far below 0.

    Returns:
        [metrics] p-values, each above 0.
    """
    sized = (lambda one: one) if one_sided else np.abs
    totals, near = sized(values.sum(0)), ROUNDING * np.abs(values).sum(0)
    hits, tried = np.zeros(values.shape[1]), 0
    for signs in assignments(len(values), generator(seed, FLIPS), most):
        hits += (sized(signs @ values) >= totals - near).sum(0)
        tried += len(signs)
    extra = 0 if exhausts(len(values), most) else 1
    p_values: Values = (extra + hits) / (extra + tried)
    return p_values


def exhausts(units: int, most: int = ASSIGNMENTS) -> bool:
    """Return whether all assignments of signs to so many units are tried."""
    return bool(2**units <= most)


def assignments(units: int, random: np.random.Generator, most: int = ASSIGNMENTS) -> Iterator[Values]:
    """Iterate over assignments of signs, [some, units], in batches that fit in memory.

    All of them, if they are no more than ``most``; else as many drawn at random.
    """
    if exhausts(units, most):
        bits = np.arange(2**units)[:, None] >> np.arange(units) & 1
        yield (1 - 2 * bits).astype(np.float64)
        return
    step = max(1, AT_ONCE // units)
    for start in range(0, most, step):
        drawn = random.integers(2, size=(min(step, most - start), units))
        yield (1 - 2 * drawn).astype(np.float64)
