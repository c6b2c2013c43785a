"""Move tensors between a device and the host's memory: many at once, so that the host waits at most once.

Whatever a program reads of a tensor on a GPU makes it wait until the GPU is done with all that was asked of
it before. So results stay there as tensors, and come back together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
Name = TypeVar("Name")

ROOM = 64
"""How many times as many numbers a GPU holds at a time: it gains from large operations."""

UNKNOWN = (torch.bfloat16,)
"""Number types that NumPy lacks; such numbers come back in float32."""


def arrays(tensors: Mapping[Name, Tensor]) -> dict[Name, Array]:
    """Bring tensors to the host, all in one transfer; those that are there already share their memory.

    Args:
        tensors: Tensors by name; those that are not on the CPU are on one device.
    """
    known = {name: one.float() if one.dtype in UNKNOWN else one for name, one in tensors.items()}
    # the widest numbers first, so that all begin where the processor wants them to
    away = sorted((name for name, one in known.items() if not one.is_cpu), key=lambda n: -known[n].itemsize)
    found = {name: one.numpy() for name, one in known.items() if one.is_cpu}
    if away:
        pieces = [known[name].contiguous().reshape(-1).view(torch.uint8) for name in away]
        whole = _fetched(torch.cat(pieces)).numpy()
        ends = np.cumsum([len(one) for one in pieces])
        for name, size, end in zip(away, map(len, pieces), ends.tolist(), strict=True):
            one = known[name]
            found[name] = whole[end - size : end].view(_NUMPY[one.dtype]).reshape(one.shape)
    return {name: found[name] for name in tensors}


_NUMPY = {dtype: torch.empty(0, dtype=dtype).numpy().dtype for dtype in (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.float32, torch.float64,
)}  # fmt: skip


def array(tensor: Tensor) -> Array:
    """Bring one tensor to the host."""
    return arrays({"": tensor})[""]


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Send a tensor to a device, one of the host without waiting until it is there."""
    if device.type == "cpu":
        return tensor.to(device)
    there = tensor.pin_memory() if device.type == "cuda" and tensor.is_cpu else tensor
    return there.to(device, non_blocking=True)


def roomy(numbers: int, device: torch.device) -> int:
    """Return how many numbers to hold at a time on a device, given how many suit a processor's cache."""
    return numbers if device.type == "cpu" else ROOM * numbers


def _fetched(whole: Tensor) -> Tensor:
    """Copy from a device into memory that it can write to by itself, which is several times as fast."""
    if not whole.is_cuda:
        return whole.cpu()
    room = torch.empty(whole.shape, dtype=whole.dtype, pin_memory=True)
    room.copy_(whole, non_blocking=True)
    torch.cuda.current_stream(whole.device).synchronize()
    return room
