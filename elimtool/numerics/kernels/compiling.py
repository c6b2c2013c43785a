"""Compile loops to machine code that later processes reuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import njit
from numba.core import event

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
    # a function that is called, and not copied into its caller, is another one in the process that compiles
    # than in those that read the cache: both compile it, each rounds its own way, and either may be linked
    options = {"nogil": True, "error_model": "numpy", "fastmath": set(liberties), "forceinline": True}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder that it can write its cache to
        return njit(**options)(function)


@contextmanager
def told(say: Callable[[str], None]) -> Iterator[None]:
    """Say once that something is compiled inside the block, not when it is read from the cache."""
    with event.install_listener("numba:compile", _Compiling(say)):
        yield


class _Compiling(event.Listener):  # type: ignore[misc]  # numba has no types
    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.said = False

    def on_start(self, event: Any) -> None:
        """Say that functions are being compiled, at the first of them."""
        del event
        if not self.said:
            self.said = True
            self.say("compiling the kernels, once a machine")

    def on_end(self, event: Any) -> None:
        """Do nothing."""
