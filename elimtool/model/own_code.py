"""Tell an error of a model's own code, which a user can act on, from a defect of elimtool."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.files.package import PACKAGE
from elimtool.model.checkpoint import reason
from elimtool.model.memory import out_of_memory


@contextmanager
def own_code(name: str) -> Iterator[None]:
    """While open, turn an error raised in the model's own code into a message; others pass as they are.

    Args:
        name: The user's name for the model.

    Raises:
        ElimError: The code of transformers, of the bridge or of the checkpoint failed.
    """
    try:
        yield
    except ElimError:
        raise
    except Exception as error:  # code of a family may raise anything
        frames = traceback.extract_tb(error.__traceback__)[2:]  # without this one and the caller
        # hooks of elimtool run inside the model: an error in one of them is ours
        if out_of_memory(error) or any(PACKAGE in Path(frame.filename).parents for frame in frames):
            raise
        last = frames[-1] if frames else None
        where = f" in {Path(last.filename).name}, line {last.lineno}" if last else ""
        raise ElimError(
            f"{name}: the model's own code fails{where}: {type(error).__name__}: {reason(error)}",
            "see whether plain transformers runs it; `elimtool models verify` compares the two",
        ) from error
