"""Average over passages or probes, with intervals and one-sided tests over them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from elimtool.analysis.map.sums import Array
from elimtool.analysis.statistics.base import BOOTSTRAP, LEVEL, generator
from elimtool.analysis.statistics.bootstrap import RESAMPLES, draw_weights
from elimtool.analysis.statistics.families import benjamini_hochberg
from elimtool.analysis.statistics.flips import sign_flips

SEED = 0
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


def exceeds(values: Array, null: Array) -> tuple[Array, Array]:
    """Test that units are larger than their null.

    Args:
        values: [units, layers, heads].
        null: Likewise, or what fits that shape.

    Returns:
        p and, adjusted over all heads that have a p, q (Benjamini-Hochberg), [layers, heads]; NaN where a
        unit is NaN or there are fewer than two.
    """
    differences = (values - null).reshape(len(values), -1)
    p, q = np.full((2, differences.shape[1]), np.nan)
    known = ~np.isnan(differences).any(0)
    if len(values) >= 2 and known.any():
        p[known] = sign_flips(differences[:, known], SEED, ASSIGNMENTS, one_sided=True)
        q[known] = benjamini_hochberg(p[known])
    return p.reshape(values.shape[1:]), q.reshape(values.shape[1:])
