"""Define the colours of all figures: distinct without colour vision, heat ordered by lightness for print."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, log10

from elimtool.report.numbers import LIFT_STEPS

SHARE_STEPS = (0.01, 0.03, 0.08, 0.15, 0.3, 0.5, 0.75)
"""Borders between the eight steps of a share of 0 .. 1."""

SHIFT_STEPS = (-2.0, -1.0, -0.5, -0.1, 0.1, 0.5, 1.0, 2.0)
"""Borders between the nine steps of a difference in logits or nats; within 0.1 of 0 there is no colour."""

RESTORED_STEPS = (-0.9, -0.5, -0.25, -0.1, 0.1, 0.25, 0.5, 0.9)
"""Borders between the nine steps of a share of a difference that a patch restores."""

PART_STEPS = (-0.5, -0.25, -0.1, -0.03, 0.03, 0.1, 0.25, 0.5)
"""Borders between the nine steps of a signed share."""

PROB_STEPS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9)
"""Borders between the eight steps of a probability."""

RANK_STEPS = (2, 4, 11, 31, 101, 1001, 10_001)
"""Borders between the eight steps of a rank; the least rank has the strongest colour."""

RANK_BANDS = ("1", "2-3", "4-10", "11-30", "31-100", "101-1,000", "1,001-10,000", "> 10,000")
"""What the steps of a rank are called."""

STEPS = {
    "lift": LIFT_STEPS,
    "share": SHARE_STEPS,
    "shift": SHIFT_STEPS,
    "restored": RESTORED_STEPS,
    "part": PART_STEPS,
    "prob": PROB_STEPS,
    "rank": RANK_STEPS,
}
"""Borders of the scales that are the same in every figure."""


def steps_around_zero(values: Iterable[float | None]) -> tuple[float, ...]:
    """Choose eight borders around 0: 5, 20, 50 and 100 % of a round number near the largest value."""
    most = max((abs(value) for value in values if value is not None), default=0.0) or 1.0
    decade = 10.0 ** floor(log10(most))
    top = decade * max(one for one in (1, 2, 5) if one * decade <= most * (1 + 1e-9))
    borders = [float(f"{part * top:.6g}") for part in (0.05, 0.2, 0.5, 1)]
    return (*(-one for one in reversed(borders)), *borders)


HEAT_LIGHT = ("#eaf1f8", "#c8def1", "#a7c8ea", "#92ace3", "#8d80d1", "#8e49aa", "#802072", "#5b0039")
"""Eight steps of even spacing in OKLCH lightness, from little to much, on white."""
HEAT_DARK = ("#1f252a", "#23374c", "#2d4870", "#4a5996", "#7e65bb", "#bd74ce", "#ef91c7", "#ffccca")
"""The same on a dark page."""

SHIFT_LIGHT = (
    "#773a00", "#b05a02", "#e28d4f", "#fbc49f", "#f4f4f4", "#b7d4f9", "#74a7e8", "#2d74ca", "#00468c",
)  # fmt: skip
"""Nine steps from much less (orange) over no change to much more (blue), on white."""
SHIFT_DARK = (
    "#ffcba9", "#e78a45", "#8e4a12", "#643d20", "#26282b", "#284972", "#2a62a6", "#6fa7ee", "#bddaff",
)  # fmt: skip
"""The same on a dark page."""

LINES_LIGHT = ("#0072b2", "#b84a00", "#00735a", "#9a3d78", "#6b5e00", "#4a4a4a")
"""Lines and parts of a whole: contrast of at least 4.5 to white; further lines differ in dashes."""
LINES_DARK = ("#62b6ec", "#ff9d52", "#45c9a0", "#eda0cf", "#d9c94f", "#c9c9c9")
"""The same on a dark page."""
