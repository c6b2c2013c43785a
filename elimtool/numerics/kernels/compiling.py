"""Compile loops to machine code, and keep it for later processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

_IN_ANY_ORDER = frozenset({"reassoc", "contract", "nsz", "arcp"})
_AS_WRITTEN = frozenset({"contract", "nsz"})


def compiled(function: Callable[..., Any]) -> Any:
    """Compile for any order of sums, so that several terms are added at once; inf and nan stay themselves."""
    return _compile(function, _IN_ANY_ORDER)


def as_written(function: Callable[..., Any]) -> Any:
    """Compile for the order of operations that is written down, where rounding was counted on."""
    return _compile(function, _AS_WRITTEN)


def _compile(function: Callable[..., Any], liberties: frozenset[str]) -> Any:
    options = {"nogil": True, "error_model": "numpy", "fastmath": set(liberties)}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder that it can write to
        return njit(**options)(function)
