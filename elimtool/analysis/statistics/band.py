"""Work out from controls how far an edit must move a number to count as more than any edit would.

A band is a conformal quantile: if an edit does nothing special, so that it and the controls are exchangeable,
it exceeds the band at one layer with a chance of at most 5 % (Vovk et al. 2005, "Algorithmic Learning in a
Random World"). Over all layers the chance is larger: compare every control with the others to see how large.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt

from elimtool.analysis.statistics.base import LEVEL
from elimtool.numerics.exchangeable import LEAST

Layers = npt.NDArray[np.float64]


def band(controls: Sequence[Layers]) -> Layers | None:
    """Compute per layer what at most 5 % of edits like the controls exceed.

    Args:
        controls: One array [layers] for each control.

    Returns:
        [layers], or ``None`` with fewer than ``LEAST`` controls.
    """
    n = len(controls)
    if n < LEAST:
        return None
    place = ceil(LEVEL * (n + 1) - 1e-9)  # a product just above a whole number is rounding
    border: Layers = np.sort(np.stack(list(controls)), axis=0)[place - 1]
    return border


def others(controls: Sequence[Layers], index: int) -> Sequence[Layers]:
    """Return all controls except one."""
    return [*controls[:index], *controls[index + 1 :]]


def onset(values: Layers, border: Layers | None) -> int | None:
    """Find the first layer whose value exceeds the band, -1 for the embedding.

    Args:
        values: [layers], the embedding first.
        border: From ``band``.

    Returns:
        ``None`` if no layer does, or there is no band.
    """
    if border is None:
        return None
    beyond = np.flatnonzero(values > border)
    return int(beyond[0]) - 1 if len(beyond) else None


def scores(value: Layers, controls: Sequence[Layers]) -> Layers:
    """Standardise a value by the mean and standard deviation of the controls.

    Args:
        value: Any shape.
        controls: Arrays of that shape; NaN where a control has no number.

    Returns:
        Standard deviations from the mean; NaN where fewer than two controls have a number, or all the same.
    """
    if len(controls) < 2:
        return np.full_like(value, np.nan)
    found = np.stack(list(controls))
    # nanmean and nanstd would warn where all are NaN
    counted = (~np.isnan(found)).sum(0)
    total = np.where(np.isnan(found), 0.0, found).sum(0)
    mean = total / np.maximum(counted, 1)
    spread = np.where(np.isnan(found), 0.0, (found - mean) ** 2).sum(0) / np.maximum(counted - 1, 1)
    known = (counted >= 2) & (spread > 0)
    result: Layers = np.where(known, (value - mean) / np.sqrt(np.where(known, spread, 1.0)), np.nan)
    return result
