"""Small arrays on a (prompt, probe, ...) grid to the columns of a table, without a loop over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Columns = Mapping[str, Any]
"""Column name to values of one length: arrays, masked arrays (masked = null) or lists (None = null)."""


def names_at(
    names: Sequence[Sequence[str]], first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]
) -> Any:
    """Pick ``names[first[i]][second[i]]`` for every i; ``names`` may be ragged."""
    width = max((len(row) for row in names), default=0)
    grid = np.full((len(names), max(width, 1)), "", dtype=object)
    for index, row in enumerate(names):
        grid[index, : len(row)] = row
    return grid[first, second]


def null_where(values: npt.NDArray[Any], absent: npt.NDArray[np.bool_]) -> Any:
    """A masked array whose ``absent`` entries become null, for integer and text columns."""
    return np.ma.MaskedArray(values, mask=absent)


def join(parts: Sequence[Mapping[str, Any]]) -> Columns:
    """Columns of several parts, one after the other; empty for no parts."""
    return {key: _concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}


def _concatenate(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    masked = any(isinstance(part, np.ma.MaskedArray) for part in parts)
    return np.ma.concatenate(parts) if masked else np.concatenate(parts)  # type: ignore[no-untyped-call]
