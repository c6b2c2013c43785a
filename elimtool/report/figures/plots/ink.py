"""Share width, inks, short labels and number ticks among all drawn figures."""

from __future__ import annotations

from typing import Any

from elimtool.report.figures.words import SCREEN

WIDTH = 7.0
"""Inches: the text width of a two-column page."""
LABEL = 28
"""Longest label, in character cells."""
INK, EDGE, GONE = "#16181d", "#c9ced6", "#6b6f78"


def short(text: str, width: int = LABEL) -> str:
    """Cut a text in the middle to the length of a label."""
    return SCREEN.shorten(text, width)


def count_ticks(axis: Any) -> None:
    """Write the ticks of a logarithmic axis as whole numbers."""
    from matplotlib.ticker import NullLocator

    axis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axis.set_minor_locator(NullLocator())
