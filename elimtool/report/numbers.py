"""Format numbers for stories: shares as percentages, lifts as multiples, and steps of a scale."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import isnan, log

LIFT_STEPS = (0.25, 0.5, 0.8, 1.25, 2.0, 3.0, 5.0)
"""Borders between the eight steps of heat; an even share (1) is step 3 of 0 .. 7, step 0 is eliminated."""

HEAT = ("bright_black", "blue", "blue", "", "magenta", "magenta", "red", "bold red")
"""Colour of each step, in addition to its character; readable on dark and light screens."""


def heat_step(lift: float) -> int:
    """Step 0 .. 7 of a lift."""
    return bisect_right(LIFT_STEPS, lift)


def rank_step(rank: int, worst: int) -> int:
    """Step 0 .. 7 of a rank on a logarithmic scale: 7 for rank 1 alone, 0 for ``worst``."""
    if rank <= 1 or worst <= 1:
        return 7
    return max(0, min(6, int(7 * (1 - log(rank) / log(worst)))))


def share(value: float | None) -> str:
    """Format a share of 0 .. 1 as a percentage, without false precision; ``-`` for None."""
    if value is None:
        return "-"
    percent = 100 * value
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    # 99.x % keeps its decimal: rounded to 100% it would claim that nothing is left
    whole = percent in (0, 100) or 9.95 <= percent < 99
    return f"{percent:.0f}%" if whole else f"{percent:.1f}%"


def times(lift: float) -> str:
    """Format a multiple of an even share: ``0.3x``, ``12x``."""
    if lift < 0.05:
        return "0.0x" if lift == 0 else "<0.1x"
    return f"{lift:.1f}x" if lift < 9.95 else f"{lift:.0f}x"


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the numbers among the values; None where there is none."""
    known = [value for value in values if value is not None and not isnan(value)]
    return sum(known) / len(known) if known else None
