"""Texts as figures show them: whole, with control characters made visible, cut in the middle where long."""

from __future__ import annotations

from elimtool.report.screen import Screen

SCREEN = Screen(width=10_000)
LABEL = 60
"""Longest label of a row, in character cells."""

MOST_NAMED = 5
"""Names that a message lists; the rest is counted."""


def label(text: str) -> str:
    """A name for a row or a line."""
    return SCREEN.shorten(SCREEN.spaced(text), LABEL)


def quoted(text: str) -> str:
    """A token in quotes, so that its spaces show."""
    return SCREEN.quoted(text, LABEL)
