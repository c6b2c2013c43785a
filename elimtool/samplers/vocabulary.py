"""Hold what turns texts of a chain into tokens: the spelling of each token, and a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

_BYTE = re.compile(rb"\\x([0-9a-f]{2})")
Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A model's tokens.

    Attributes:
        pieces: Text of every token, by id.
        encode: Turns a text into token ids, without special ones; ``None`` where there is no tokenizer.
        control: Ids of control tokens.
    """

    pieces: Sequence[str]
    encode: Encode | None = None
    control: Collection[int] = ()


def as_bytes(piece: str) -> bytes:
    r"""Return the bytes of a token's text, in which ``\xNN`` is a byte of a part of a character."""
    return _BYTE.sub(lambda one: bytes([int(one[1], 16)]), piece.encode())


def lowered(text: str) -> str:
    """Return a text with the letters A to Z made small and no others, as C does by default."""
    return text.lower() if text.isascii() else "".join(c.lower() if c.isascii() else c for c in text)
