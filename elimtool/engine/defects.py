"""Count errors that no prompt explains, by kind, and keep the first traceback of each."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.files.package import PACKAGE
from elimtool.model.memory import out_of_memory
from elimtool.model.view import Encoded

Failed = Callable[[Encoded, Exception], None]
"""Is told which prompt failed, and with what."""


class Defects:
    """Errors so far by kind, such as ``KeyError at elimtool/engine/walk.py:41``.

    Attributes:
        counts: Number of errors of each kind.
        tracebacks: Traceback of the first error of each kind.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.tracebacks: dict[str, str] = {}

    def add(self, error: Exception) -> None:
        """Count an error."""
        self.add_described(*described(error))

    def add_described(self, kind: str, text: str) -> None:
        """Count an error by what ``described`` said of it."""
        self.tracebacks.setdefault(kind, text)
        self.counts[kind] = self.counts.get(kind, 0) + 1


def described(error: Exception) -> tuple[str, str]:
    """Describe an error by its kind (type, innermost file and line) and its traceback.

    Keep these strings instead of the exception, whose frames hold the tensors of the pass.
    """
    kind, text = type(error).__name__, "".join(traceback.format_exception(error))
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return kind, text
    path = Path(frames[-1].filename)
    shown = path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE.parent) else path
    return f"{kind} at {shown}:{frames[-1].lineno}", text


@contextmanager
def costs_only(one: Encoded, failed: Failed | None) -> Iterator[None]:
    """Give an error of the block to ``failed``, so that it costs one prompt only; without, raise it."""
    try:
        yield
    except Exception as error:  # a test of one prompt must not fail the others
        if failed is None:
            raise
        failed(one, error)


def is_defect(error: Exception) -> bool:
    """Tell whether neither the prompt nor a lack of memory explains an error."""
    return not isinstance(error, ElimError) and not out_of_memory(error)
