"""Move tensors between a device and the host's memory: many at once, so that the host waits at most once.

Whatever a program reads of a tensor on a GPU makes it wait until the GPU is done with all that was asked of
it before. So results stay there as tensors, and come back together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
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
    return coming(tensors)()


def coming(tensors: Mapping[Name, Tensor]) -> Callable[[], dict[Name, Array]]:
    """Start to bring tensors to the host, as ``arrays`` does; return what waits for them.

    The wait is for what has been asked of the device until now, not for what is asked of it later.
    """
    known = {name: one.float() if one.dtype in UNKNOWN else one for name, one in tensors.items()}
    found = {name: one.numpy() for name, one in known.items() if one.is_cpu}
    # the widest numbers first, so that all begin where the processor wants them to
    away = sorted(known.keys() - found.keys(), key=lambda name: -known[name].itemsize)
    if not away:
        return lambda: found
    pieces = [own(known[name]).reshape(-1).view(torch.uint8) for name in away]
    ends = np.cumsum([len(one) for one in pieces]).tolist()
    kinds = [(_NUMPY[known[name].dtype], known[name].shape) for name in away]
    copied, order = _copied(torch.cat(pieces)), list(tensors)

    def there() -> dict[Name, Array]:
        whole = copied().numpy()
        for name, start, end, (dtype, shape) in zip(away, [0, *ends], ends, kinds, strict=False):
            found[name] = whole[start:end].view(dtype).reshape(shape)
        return {name: found[name] for name in order}

    return there


_NUMPY = {dtype: torch.empty(0, dtype=dtype).numpy().dtype for dtype in (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.float32, torch.float64,
)}  # fmt: skip


def own(tensor: Tensor) -> Tensor:
    """Return a tensor whose numbers stand side by side, not as a column of something larger."""
    found = tensor.contiguous()  # which lets one row be, however far it is to the next
    if not found.ndim or found.stride(-1) == 1:
        return found
    return found.clone(memory_format=torch.contiguous_format)


def array(tensor: Tensor) -> Array:
    """Bring one tensor to the host."""
    return arrays({"": tensor})[""]


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Send a tensor to a device, one of the host without waiting until it is there."""
    if device.type == "cpu":
        return tensor.to(device)
    there = tensor.pin_memory() if device.type == "cuda" and tensor.is_cpu else tensor
    return there.to(device, non_blocking=True)


def memory(device: torch.device) -> int:
    """Return the bytes of a GPU's memory, used or not; 0 for other devices."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def roomy(numbers: int, device: torch.device) -> int:
    """Return how many numbers to hold at a time on a device, given how many suit a processor's cache."""
    return numbers if device.type == "cpu" else ROOM * numbers


def _copied(whole: Tensor) -> Callable[[], Tensor]:
    """Start to copy from a GPU beside what it does next; return what waits for the copy.

    The GPU writes into locked memory by itself, which is several times as fast, on a stream of its own, which
    begins when what has been asked for until now is done.
    """
    if not whole.is_cuda:
        return whole.cpu
    room = torch.empty(whole.shape, dtype=whole.dtype, pin_memory=True)
    aside = _aside(whole.device)
    aside.wait_stream(torch.cuda.current_stream(whole.device))
    with torch.cuda.stream(aside):
        room.copy_(whole, non_blocking=True)
        done = aside.record_event()
    whole.record_stream(aside)  # its memory must not be used again before the copy is made

    def waited() -> Tensor:
        done.synchronize()
        return room.clone()  # locked memory is scarce, and columns may share what is returned

    return waited


@cache
def _aside(device: torch.device) -> Any:
    """Return the stream on which results of a GPU come back."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
