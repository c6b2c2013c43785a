"""Whether an error says that there is not enough memory."""

from __future__ import annotations

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
