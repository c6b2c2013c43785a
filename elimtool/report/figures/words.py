"""Prepare texts for figures: control characters made visible, long texts cut in the middle."""

from __future__ import annotations

import re

from elimtool.files.rows import Row
from elimtool.report.screen import Screen

SCREEN = Screen(width=10_000)
LABEL = 60
"""Longest label of a row, in character cells."""
HASH = re.compile("[0-9a-f]{16}")
"""Id of a prompt without one of its own."""
TITLE = 120
"""Longest title of a prompt, in characters."""


def label(text: str) -> str:
    """Make the label of a row or a line."""
    return SCREEN.shorten(SCREEN.spaced(text), LABEL)


def title(prompt: Row) -> str:
    """Title a prompt by its text: in a chat by what the user says last, else by its beginning."""
    said = [one["text"] for one in prompt.get("turns") or () if one["role"] == "user"]
    text = said[-1] if said else prompt["text"] or ""
    return headline(text) or str(prompt["prompt_id"])


def headline(text: str) -> str:
    """Write the beginning of a text on one line, cut between words."""
    words = SCREEN.visible(" ".join(text[: 4 * TITLE].split()))
    if len(words) <= TITLE:
        return words
    return words[: TITLE - 1].rsplit(" ", 1)[0] + "…"


def quoted(text: str) -> str:
    """Put a token in quotes, so that its spaces show."""
    return SCREEN.quoted(text, LABEL)
