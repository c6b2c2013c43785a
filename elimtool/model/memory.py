"""Recognise that memory ran out, and control when free memory is collected and returned to the system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

LONG = 512
"""Length of a prompt in tokens from which its large activations are mapped one by one."""
MAPPED = 2 * 2**20
"""Size in bytes from which such a pass maps an allocation separately."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt`` (malloc.h)."""
MOST_MAPPED = 32 * 2**20
"""Limit of glibc's own dynamic threshold, which a process that frees large blocks reaches (mallopt(3))."""
KEPT = 64 * 2**20
"""Free bytes that the end of the heap may hold: twice ``MOST_MAPPED``, as with the dynamic threshold."""


class LogitRoom:
    """Memory that passes of a job write their logits into, one after the other.

    To be handed a quarter of a gigabyte page by page can take half as long as the product that fills it.
    """

    def __init__(self) -> None:
        self._held: Float[Tensor, "most vocab"] | None = None

    def rows(self, count: int, vocab: int) -> Float[Tensor, "most vocab"]:
        """Return memory for at least so many float32 rows; what was there before is lost."""
        if self._held is None or self._held.shape[1] != vocab or len(self._held) < count:
            self._held = None  # so that both are never held
            # numpy asks the system for large pages, torch for many small ones
            self._held = torch.from_numpy(np.empty((count, vocab), dtype=np.float32))
        return self._held


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):  # Arrow's error is a MemoryError
        return True
    # on the CPU, PyTorch raises a RuntimeError that only its text tells apart
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@contextmanager
def collecting_later() -> Iterator[None]:
    """While open, switch Python's cycle collector off.

    A pass makes thousands of short-lived objects, which now and then trigger a search through all objects of
    the process; that takes longer than a forward pass of a small model.
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
    """While open, return large tensors that a long prompt's pass frees to the system at once.

    Once blocks of up to 32 MiB were freed, glibc allocates such blocks on its heap. Small results that are
    kept then separate large activations that are gone, and the heap grows with every layer. Mapping costs
    time, so short passes go without; other C libraries are not touched.

    Args:
        tokens: Length of the longest prompt.
    """
    change = mallopt() if tokens >= LONG else None
    if change is None:
        yield
        return
    change(M_MMAP_THRESHOLD, MAPPED)
    change(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:  # mallopt cannot be asked for the value before
        change(M_MMAP_THRESHOLD, MOST_MAPPED)


def mallopt() -> Any:
    """Return the C library's ``mallopt``; ``None`` where it is not glibc."""
    try:
        library = ctypes.CDLL(None)
        return library.mallopt if hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError, AttributeError):
        return None
