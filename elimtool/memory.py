"""Memory: whether an error says that there is too little, and when Python looks for what nobody holds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, Arrow's, or a tensor's on any device.

    Args:
        error: Anything that was raised. Arrow's error is a ``MemoryError``; on the CPU, PyTorch raises a
            plain ``RuntimeError`` that only its words tell apart.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@contextmanager
def collecting_later() -> Iterator[None]:
    """While open, Python does not search for cycles of garbage, unless it did not before either.

    A pass makes thousands of short-lived objects, and every so often they would set off a search through
    all objects of the process, which takes longer than a forward pass of a small model.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
