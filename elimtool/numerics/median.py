"""Find the median of many numbers by counting, which takes a fraction of the time of a selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MANY = 2**12
"""Fewest numbers for which counting is faster."""

SAMPLE = 2**10
"""About how many numbers are sorted first, to see where the median lies."""

BESIDE = 0.05
"""How far to either side of its likely place a range around the median is cut, as a share of the range."""

CUTS = 2
"""Times that the range is cut so."""

HALF = 16
"""Bits of a float that are looked at together."""


def median(numbers: npt.NDArray[np.floating[Any]]) -> float:
    """Return the median, the mean of the middle two of an even number; NaN where any number is.

    Args:
        numbers: At least one.
    """
    flat = numbers.reshape(-1)
    half = flat.size // 2
    if np.isnan(flat.max()):
        return float("nan")
    if flat.size >= MANY and (found := _range(flat, half)) is not None:
        low, high = found
        inside = flat[(flat >= low) & (flat < high)]
        below = _below(flat, low)
        if below < half < below + inside.size:
            return _middle(inside, half - below, flat.size % 2 == 1)
    return _middle(flat, half, flat.size % 2 == 1)


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


def _middle(numbers: npt.NDArray[Any], place: int, single: bool) -> float:
    """Return the number at a place in rising order, or the mean of it and the one before."""
    parts = np.partition(numbers, place)
    return float(parts[place] if single else (parts[place] + parts[:place].max()) / 2)


def _range(numbers: npt.NDArray[Any], half: int) -> tuple[Any, Any] | None:
    """Find a short range, open above, with the numbers at ``half`` and before it; ``None`` if not found."""
    # an odd step, so that all channels are in the sample
    sample = np.sort(numbers[:: numbers.size // SAMPLE | 1])
    middle, reach = len(sample) // 2, len(sample) // 16
    low, high = sample[middle - reach], sample[middle + reach]
    if not np.isfinite(high):
        return None
    below, within = _below(numbers, low), _below(numbers, high)
    for side in (-BESIDE, BESIDE) * CUTS:
        if not below < half < within:
            return None
        cut = low + (high - low) * numbers.dtype.type((half - below) / (within - below) + side)
        if low < cut < high:
            count = _below(numbers, cut)
            low, below, high, within = (
                (cut, count, high, within) if count < half else (low, below, cut, count)
            )
    return low, high


def _below(numbers: npt.NDArray[Any], edge: Any) -> int:
    return int(np.count_nonzero(numbers < edge))
