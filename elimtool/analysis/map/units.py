"""Average over passages or probes, with intervals and one-sided tests over them."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from elimtool.analysis.map.sums import Array
from elimtool.analysis.statistics.base import BOOTSTRAP, LEVEL, generator
from elimtool.analysis.statistics.bootstrap import RESAMPLES, draw_weights
from elimtool.analysis.statistics.families import benjamini_hochberg
from elimtool.analysis.statistics.flips import sign_flips

SEED = 0
FEWEST_ROWS = 10
"""Rows under which a head has no number."""
SHOWS_NONE = "the layer shows no attention weights"
SINKS_ALONE = "the head leaves under a hundredth to keys that are no sinks on all but a few queries"
ASSIGNMENTS = 2**16
"""Assignments of signs: all of 16 units, so that a role of one head among a thousand can be certain."""


class Interval(NamedTuple):
    """A mean over units and its 95 % percentile interval, arrays of one shape; NaN for fewer than two."""

    mean: Array
    low: Array
    high: Array


def interval(values: Array) -> Interval:
    """Average over units.

    Args:
        values: [units, ...]; NaN where all units are to give NaN.
    """
    mean = values.mean(0)
    if len(values) < 2:
        return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    flat = values.reshape(len(values), -1)
    draws = np.concatenate(
        [one @ flat / len(flat) for one in draw_weights(len(flat), RESAMPLES, generator(SEED, BOOTSTRAP))]
    )
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Interval(mean, low.reshape(mean.shape), high.reshape(mean.shape))


def ratio_interval(over: Array, under: Array) -> Interval:
    """Divide sums over units, with the interval of drawing units anew; NaN where nothing is under.

    Args:
        over: [units, ...].
        under: Likewise.
    """
    shape = over.shape[1:]
    above, below = (one.reshape(len(one), -1) for one in (over, under))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (above.sum(0) / below.sum(0)).reshape(shape)
        if len(over) < 2:
            return Interval(mean, np.full(shape, np.nan), np.full(shape, np.nan))
        draws = np.concatenate(
            [
                (one @ above) / (one @ below)
                for one in draw_weights(len(over), RESAMPLES, generator(SEED, BOOTSTRAP))
            ]
        )
    # a drawing without the category has no ratio
    ends = np.full((2, draws.shape[1]), np.nan)
    some = ~np.isnan(draws).all(0)
    ends[:, some] = np.nanquantile(draws[:, some], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Interval(mean, ends[0].reshape(shape), ends[1].reshape(shape))


def seen(values: Array) -> Array:
    """Leave out units that were not measured: NaN throughout, [units, ...]."""
    return values[~np.isnan(values).reshape(len(values), -1).all(1)]


def exceeds(values: Array, null: Array) -> tuple[Array, Array]:
    """Test that units are larger than their null.

    Args:
        values: [units, layers, heads].
        null: Likewise; units that are NaN throughout are not tested.

    Returns:
        p and, adjusted over all heads that have a p, q (Benjamini-Hochberg), [layers, heads]; NaN where a
        unit is NaN or there are fewer than two.
    """
    return _tested(seen(values - null), one_sided=True)


def outnumbers(values: Array, chance: Array) -> tuple[Array, Array]:
    """Test that units which are 0 or 1 are 1 more often than by chance, which may differ between units.

    The p-value is the exact tail of the sum of independent units (Poisson binomial).

    Args:
        values: [units, layers, heads].
        chance: Likewise, of being 1.

    Returns:
        p and q as of ``exceeds``.
    """
    known = ~np.isnan(values + chance).any(0)
    p, q = np.full((2, *values.shape[1:]), np.nan)
    tails: dict[bytes, Array] = {}
    for at in map(tuple, np.argwhere(known)):
        each = chance[(slice(None), *at)]
        if (key := each.tobytes()) not in tails:
            sums = np.ones(1)
            for one in each:
                sums = np.convolve(sums, (1 - one, one))
            tails[key] = np.minimum(np.cumsum(sums[::-1])[::-1], 1.0)
        p[at] = tails[key][round(values[(slice(None), *at)].sum())]
    if known.any():
        q[known] = benjamini_hochberg(p[known])
    return p, q


def differs(differences: Array) -> tuple[Array, Array]:
    """Test that the units' mean is not 0, on either side.

    Args:
        differences: [units, ...].

    Returns:
        p and q as of ``exceeds``, [...].
    """
    return _tested(differences, one_sided=False)


def _tested(differences: Array, one_sided: bool) -> tuple[Array, Array]:
    flat = differences.reshape(len(differences), prod(differences.shape[1:]))
    p, q = np.full((2, flat.shape[1]), np.nan)
    known = ~np.isnan(flat).any(0)
    if len(flat) >= 2 and known.any():
        p[known] = sign_flips(flat[:, known], SEED, ASSIGNMENTS, one_sided=one_sided)
        q[known] = benjamini_hochberg(p[known])
    shape = differences.shape[1:]
    return p.reshape(shape), q.reshape(shape)
