"""Find the median of many numbers by their bits: in order on a processor, counted on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

HALF = 16
"""Bits of a float that are looked at together."""


def median(numbers: npt.NDArray[np.floating[Any]]) -> float:
    """Return the median, the mean of the middle two of an even number; NaN where any number is.

    Args:
        numbers: 0 or more; at least one.
    """
    flat = numbers.reshape(-1)
    half = flat.size // 2
    if np.isnan(flat.max()):
        return float("nan")
    # the bits of such floats are in the order of the floats, and NumPy parts integers in half the time
    parts = np.partition(flat.view(f"i{flat.itemsize}"), half).view(flat.dtype)
    return float(parts[half] if flat.size % 2 else (parts[half] + parts[:half].max()) / 2)


def medians(numbers: Float[Tensor, "rows width"], counts: Int[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Return the medians of the first numbers of each row, without looking at any on the host.

    The middle numbers are found by their bits, half of them at a time, from counts of numbers with the same
    first bits: for a GPU, which counts faster than it sorts.

    Args:
        numbers: 0 or more; float32.
        counts: How many of each row count, at least one.
    """
    width = numbers.shape[-1]
    there = torch.arange(width, device=numbers.device) < counts[:, None]
    bits = numbers.contiguous().view(torch.int32)
    high, low = bits >> HALF, bits & (2**HALF - 1)
    found = []
    for place in ((counts - 1) // 2, counts // 2):
        first, before = _reached(high, there, place)
        last, _ = _reached(low, there & (high == first[:, None]), place - before)
        found.append(((first << HALF) | last).to(torch.int32).view(torch.float32))
    middle = (found[0] + found[1]) / 2
    return middle.where(~(numbers.isnan() & there).any(-1), torch.nan)


def _reached(
    values: Int[Tensor, "rows width"], among: Bool[Tensor, "rows width"], place: Int[Tensor, "rows"]
) -> tuple[Int[Tensor, "rows"], Int[Tensor, "rows"]]:
    """Return the value at a place in rising order among some, and how many are smaller."""
    counts = torch.zeros(len(values), 2**HALF, dtype=torch.int32, device=values.device)
    counts.scatter_add_(1, values.long(), among.to(torch.int32))
    ends = counts.cumsum(-1)
    found = torch.searchsorted(ends, place[:, None].to(ends.dtype), right=True).clamp(max=2**HALF - 1)
    before = ends.gather(1, found) - counts.gather(1, found)
    return found[:, 0], before[:, 0]
