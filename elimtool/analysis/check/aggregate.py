"""Reduce several values of one prompt to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from elimtool.analysis.check.spec import QUANTILE, Condition
from elimtool.analysis.check.texts import fits


def aggregate(how: str, values: Sequence[Any], where: Condition | None = None) -> Any:
    """Reduce values to one.

    Args:
        how: An aggregation of ``spec.AGGREGATIONS``, or ``pNN`` for a quantile (linear interpolation).
        values: At least one, none of them null.
        where: For ``share``: which values count; by default those that are true.
    """
    if how in ("first", "last"):
        return values[0 if how == "first" else -1]
    if how == "share":
        return sum(_counts(value, where) for value in values) / len(values)
    numbers = np.asarray(values, dtype=float)
    if found := QUANTILE.fullmatch(how):
        return float(np.quantile(numbers, float(found[1]) / 100))
    return float(_FUNCTIONS[how](numbers))


_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "mean": np.mean,
    "min": np.min,
    "max": np.max,
    "median": np.median,
    "sum": np.sum,
}


def _counts(value: Any, where: Condition | None) -> bool:
    if where is None:
        return bool(value)
    if isinstance(value, str):
        return all(fits(value, where.in_, where))
    return (where.min is None or value >= where.min) and (where.max is None or value <= where.max)
