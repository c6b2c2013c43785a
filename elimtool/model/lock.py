"""Let one call at a time run a model, and leave the model as it was where a call fails or is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from elimtool.model.native import Native

P = ParamSpec("P")
R = TypeVar("R")


class ModelLock:
    """The lock of one wrapped model; calls of one thread nest.

    A pass puts hooks on shared modules and swaps them for others, so a second pass beside it would measure
    neither. An interrupt may come between a hook and the note of it; so after any exception of the outermost
    call everything is removed that was not there before.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0

    @contextmanager
    def held(self, native: Native) -> Iterator[None]:
        """Wait until no other thread runs the model, and keep it while open."""
        with self._lock:
            before = None if self._depth else native.state()
            self._depth += 1
            try:
                if before is not None:
                    native.train(before, False)
                yield
            except BaseException:
                if before is not None:
                    native.restore(before)
                raise
            finally:
                if before is not None:
                    native.train(before, True)
                self._depth -= 1


class Exclusive:
    """A model that one call at a time may run: what ``exclusive`` looks for."""

    native: Native

    def held(self) -> AbstractContextManager[None]:
        """While open, keep the model: calls of other threads wait. Calls of this thread nest."""
        return _lock_of(self.native.hf).held(self.native)


_LOCKS: WeakKeyDictionary[Any, ModelLock] = WeakKeyDictionary()
_NEW = threading.Lock()


def _lock_of(wrapped: Any) -> ModelLock:
    """Return the lock of a wrapped model, which all ``Model`` objects around it share."""
    with _NEW:
        return _LOCKS.setdefault(wrapped, ModelLock())


def exclusive(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function wait for other calls that run its model: the first argument that is one, or has one.

    Calls of one thread nest. See ``ModelLock``.
    """

    @wraps(function)
    def alone(*args: P.args, **named: P.kwargs) -> R:
        model = next((one for one in map(_model, (*args, *named.values())) if one is not None), None)
        if model is None:  # not loaded yet: nobody else has it
            return function(*args, **named)
        with model.held():
            return function(*args, **named)

    return alone


def _model(one: object) -> Exclusive | None:
    session = getattr(one, "session", None)
    for found in (one, getattr(one, "model", None), getattr(session, "model", None)):
        if isinstance(found, Exclusive):
            return found
    return None
