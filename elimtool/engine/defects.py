"""Count errors that no prompt explains, by kind, and keep the first traceback of each."""

from __future__ import annotations

import traceback
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.files.package import PACKAGE
from elimtool.model.memory import out_of_memory


class Defects:
    """Errors met so far by kind, such as ``KeyError at elimtool/engine/walk.py:41``.

    Attributes:
        counts: How often each kind was met.
        tracebacks: What the first error of each kind looked like.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.tracebacks: dict[str, str] = {}

    def add(self, error: Exception) -> None:
        """Count an error."""
        self.add_described(*described(error))

    def add_described(self, kind: str, text: str) -> None:
        """Count an error that is gone by now: an exception holds the tensors of all its frames."""
        self.tracebacks.setdefault(kind, text)
        self.counts[kind] = self.counts.get(kind, 0) + 1


def described(error: Exception) -> tuple[str, str]:
    """An error's kind and its traceback."""
    return kind_of(error), "".join(traceback.format_exception(error))


def kind_of(error: Exception) -> str:
    """An error's type, and the innermost file and line that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    path = Path(frames[-1].filename)
    shown = path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE.parent) else path
    return f"{type(error).__name__} at {shown}:{frames[-1].lineno}"


def is_defect(error: Exception) -> bool:
    """Whether neither the prompt nor the machine's memory explains an error."""
    return not isinstance(error, ElimError) and not out_of_memory(error)
