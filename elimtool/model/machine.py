"""Describe the devices of this machine that a model can run on."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device that the option ``device`` takes.

    Attributes:
        name: What to give: ``cpu`` or ``cuda:0``.
        what: The processor, or its number of cores that PyTorch uses.
        memory: Bytes of its memory; null where nobody says.
    """

    name: str
    what: str
    memory: int | None


def devices() -> tuple[DeviceInfo, ...]:
    """List the devices that PyTorch can use, the one that ``auto`` takes first; imports torch."""
    import torch

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        found.append(DeviceInfo(f"cuda:{index}", about.name, about.total_memory))
    found.append(DeviceInfo("cpu", f"{torch.get_num_threads()} threads", _memory()))
    return tuple(found)


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return None
