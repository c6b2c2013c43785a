"""Memory: whether an error says that there is too little, and when what nobody holds is handed back."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

LONG = 512
"""Tokens of a prompt from which on its large activations are mapped one by one."""
MAPPED = 2 * 2**20
"""Bytes from which on an allocation of such a pass is mapped by itself."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt`` (malloc.h)."""
MOST_MAPPED = 32 * 2**20
"""Where glibc's own sliding threshold ends up in a process that frees large blocks (mallopt(3))."""
KEPT = 64 * 2**20
"""Free bytes that the end of the heap may hold: twice ``MOST_MAPPED``, as with the sliding threshold."""


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


@contextmanager
def returning_large(tokens: int) -> Iterator[None]:
    """While open, what a long prompt's pass frees of large tensors goes back to the system at once.

    glibc puts blocks of up to 32 MiB on its heap once such blocks were freed. Small results that are kept
    then lie between large activations that are gone, and the heap grows with every layer. Mapping costs
    time, so short passes go without; other C libraries are left alone.

    Args:
        tokens: Those of the longest prompt.
    """
    change = mallopt() if tokens >= LONG else None
    if change is None:
        yield
        return
    change(M_MMAP_THRESHOLD, MAPPED)
    change(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        change(M_MMAP_THRESHOLD, MOST_MAPPED)


def mallopt() -> Any:
    """The C library's ``mallopt``; ``None`` where it is not glibc."""
    try:
        library = ctypes.CDLL(None)
        return library.mallopt if hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError, AttributeError):
        return None
