"""Compile loops to machine code that later processes reuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# never "fast" as a whole: it would assume that there is no inf and no NaN
_IN_ANY_ORDER = frozenset({"reassoc", "contract", "nsz", "arcp"})
_AS_WRITTEN = frozenset({"contract", "nsz"})


def compiled(function: Callable[..., Any]) -> Any:
    """Compile with sums in any order, so that several terms are added at once; inf and NaN are kept."""
    return _compile(function, _IN_ANY_ORDER)


def as_written(function: Callable[..., Any]) -> Any:
    """Compile with operations in the written order, for code that relies on rounding."""
    return _compile(function, _AS_WRITTEN)


def _compile(function: Callable[..., Any], liberties: frozenset[str]) -> Any:
    options = {"nogil": True, "error_model": "numpy", "fastmath": set(liberties)}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder that it can write its cache to
        return njit(**options)(function)
