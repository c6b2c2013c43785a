"""Cut a text into segments: sentences, lines, or so many tokens each."""

from __future__ import annotations

import re

from elimtool.errors import ElimError

SENTENCES, LINES = "sentences", "lines"
WAYS = (SENTENCES, LINES)
"""Ways to cut a text at characters; a number cuts it at tokens."""

_ENDS = {
    # a full stop before a small letter is mostly that of an abbreviation
    SENTENCES: re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s+(?![a-z])\S)|[。！？]+[」』”’）]*(?=\s*\S)"),
    LINES: re.compile(r"\S(?=[^\S\n]*\n\s*\S)"),
}


def parse_along(text: str) -> str | int:
    """Read how a text is cut: ``sentences``, ``lines``, or a number of tokens.

    Raises:
        ElimError: It is none of these.
    """
    if text in WAYS:
        return text
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ElimError(f"`along` must be sentences, lines or a number of tokens from 1, got '{text}'")


def starts_of(text: str, way: str) -> list[int]:
    """Find where the segments of a text start, the first at 0; white space belongs to the one behind it.

    Args:
        text: The text.
        way: One of ``WAYS``.
    """
    return [0, *(found.end() for found in _ENDS[way].finditer(text))]
