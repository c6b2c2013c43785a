"""Hold what turns texts of a chain into tokens: the spelling of each token, and a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A model's tokens.

    Attributes:
        pieces: Text of every token, by id.
        encode: Turns a text into token ids, without special ones; ``None`` where there is no tokenizer.
    """

    pieces: Sequence[str]
    encode: Encode | None = None


def lowered(text: str) -> str:
    """Return a text with the letters A to Z made small and no others, as C does by default."""
    return text.lower() if text.isascii() else "".join(c.lower() if c.isascii() else c for c in text)
