"""What all drawn figures share: width, inks, short labels and ticks that are numbers."""

from __future__ import annotations

from typing import Any

from elimtool.report.figures.words import SCREEN

WIDTH = 7.0
"""Inches: the text width of a two-column page."""
LABEL = 28
"""Longest label, in character cells."""
INK, EDGE, GONE = "#16181d", "#c9ced6", "#6b6f78"


def short(text: str, width: int = LABEL) -> str:
    """The text cut in the middle to what a label has room for."""
    return SCREEN.shorten(text, width)


def count_ticks(axis: Any) -> None:
    """Powers of ten as numbers."""
    from matplotlib.ticker import NullLocator

    axis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axis.set_minor_locator(NullLocator())
