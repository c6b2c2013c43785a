"""Adjust the p-values of many tests."""

from __future__ import annotations

import numpy as np

from elimtool.analysis.statistics.base import Values


def benjamini_hochberg(p_values: Values) -> Values:
    """Adjust p-values for the false discovery rate over a family.

    Source: Benjamini and Hochberg 1995, the step-up procedure.

    Args:
        p_values: [tests], each in 0 .. 1.
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    stepped = np.minimum.accumulate(p_values[order] * count / np.arange(count, 0, -1))
    return _placed(stepped, order)


def holm(p_values: Values) -> Values:
    """Adjust p-values for the chance of any false discovery in a family.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: [tests], each in 0 .. 1.
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return _placed(stepped, order)


def _placed(stepped: Values, order: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Values:
    found = np.empty(len(order))
    found[order] = np.minimum(stepped, 1.0)
    return found
