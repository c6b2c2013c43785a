"""Prepare texts for figures: control characters made visible, long texts cut in the middle."""

from __future__ import annotations

from elimtool.report.screen import Screen

SCREEN = Screen(width=10_000)
LABEL = 60
"""Longest label of a row, in character cells."""


def label(text: str) -> str:
    """Make the label of a row or a line."""
    return SCREEN.shorten(SCREEN.spaced(text), LABEL)


def quoted(text: str) -> str:
    """Put a token in quotes, so that its spaces show."""
    return SCREEN.quoted(text, LABEL)
