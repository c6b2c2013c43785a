"""Join tokens that hold pieces of a character, so that people read the character."""

from __future__ import annotations

import re
from collections.abc import Sequence

ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
LATER = "·"
"""Stands for a token that goes on with a character whose first piece is shown."""


def joined(tokens: Sequence[str]) -> list[str]:
    r"""Give each token the text to show: a first piece the whole characters, the pieces after it ``·``.

    Pieces that do not add up to characters keep the ``\xNN`` of their bytes.

    Args:
        tokens: Texts as in ``prompts.tokens``, bytes of incomplete characters as ``\xNN``.
    """
    shown = list(tokens)
    index = 0
    while index < len(tokens):
        count = _length(tokens, index) if ESCAPED.search(tokens[index]) else 1
        if count:
            text = b"".join(map(_bytes, tokens[index : index + count])).decode("utf-8", "strict")
            shown[index : index + count] = [text, *[LATER] * (count - 1)] if count > 1 else [tokens[index]]
        index += max(count, 1)
    return shown


def text_of(tokens: Sequence[str]) -> str:
    """Write consecutive tokens as one text, pieces of a character joined."""
    return "".join(
        one for token, one in zip(tokens, joined(tokens), strict=True) if one != LATER or token == LATER
    )


def _length(tokens: Sequence[str], start: int) -> int:
    """Number of tokens from ``start`` on that add up to whole characters; 0 where none do."""
    held = b""
    for count, token in enumerate(tokens[start : start + 4], start=1):  # a character has at most four bytes
        held += _bytes(token)
        try:
            held.decode("utf-8")
        except UnicodeDecodeError:
            continue
        return count
    return 0


def _bytes(token: str) -> bytes:
    """The bytes of a token; an escape stands for the byte that it names."""
    parts = ESCAPED.split(token)
    return b"".join(
        bytes.fromhex(part) if number % 2 else part.encode("utf-8") for number, part in enumerate(parts)
    )
