"""Work out from controls how far an edit must move a number to count as more than any edit does.

A band is a conformal quantile: where the controls and an edit that does nothing special are exchangeable, the
edit goes beyond it with a chance of at most 5 % at one layer (Vovk et al. 2005, "Algorithmic Learning in a
Random World"). Over all layers the chance is larger: hold every control against the others to see how often.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt

from elimtool.analysis.compare.resample import LEVEL

LEAST = 19
"""Controls needed: a value beyond all of fewer is no rarer than 5 % by chance (1 / (n + 1))."""

Layers = npt.NDArray[np.float64]


def band(controls: Sequence[Layers]) -> Layers | None:
    """Per layer, what at most 5 % of edits like the controls go beyond.

    Args:
        controls: One array [layers] for each control.

    Returns:
        [layers], or ``None`` with fewer than ``LEAST`` controls.
    """
    n = len(controls)
    if n < LEAST:
        return None
    place = ceil(LEVEL * (n + 1) - 1e-9)
    border: Layers = np.sort(np.stack(list(controls)), axis=0)[place - 1]
    return border


def others(controls: Sequence[Layers], index: int) -> Sequence[Layers]:
    """All controls but one."""
    return [*controls[:index], *controls[index + 1 :]]


def onset(values: Layers, border: Layers | None) -> int | None:
    """First layer whose value is beyond the band, -1 for the embedding.

    Args:
        values: [layers], the embedding first.
        border: From ``band``.

    Returns:
        ``None`` where no layer is, or there is no band.
    """
    if border is None:
        return None
    beyond = np.flatnonzero(values > border)
    return int(beyond[0]) - 1 if len(beyond) else None


def scores(value: Layers, controls: Sequence[Layers]) -> Layers:
    """How many standard deviations of the controls a value is from their mean.

    Args:
        value: Any shape.
        controls: Arrays of that shape; NaN where a control has no number.

    Returns:
        NaN where fewer than two controls have a number, or all have the same.
    """
    if len(controls) < 2:
        return np.full_like(value, np.nan)
    found = np.stack(list(controls))
    counted = (~np.isnan(found)).sum(0)
    total = np.where(np.isnan(found), 0.0, found).sum(0)
    mean = total / np.maximum(counted, 1)
    spread = np.where(np.isnan(found), 0.0, (found - mean) ** 2).sum(0) / np.maximum(counted - 1, 1)
    known = (counted >= 2) & (spread > 0)
    result: Layers = np.where(known, (value - mean) / np.sqrt(np.where(known, spread, 1.0)), np.nan)
    return result
