"""Find the token that a word is, and tell which tokens write one word in other ways."""

from __future__ import annotations

from dataclasses import dataclass

from elimtool.errors import ElimError
from elimtool.model.tokens import Tokenizer

ANCHOR = "the"
"""What a word with a space before it is tokenised after: some tokenizers put a space before every text."""
ENDINGS = ("s", "es")
"""Plurals that count as the same word."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is one token.

    Attributes:
        asked: As the user wrote it.
        token: The token's text, with its space.
        token_id: The token.
    """

    asked: str
    token: str
    token_id: int


def find_word(tokenizer: Tokenizer, asked: str) -> Word:
    """Find the token of a word: with a space before it where the tokenizer has that whole, else as it stands.

    Raises:
        ElimError: It is several tokens, which the message prints, or none.
    """
    if not asked.strip():
        raise ElimError(f"{asked!r} is no word: it is empty or white space", "give a word, such as hare")
    ways = [asked] if asked[0].isspace() or not asked[0].isalnum() else [f" {asked}", asked]
    found = [(way, _tokens(tokenizer, way)) for way in ways]
    for _, ids in found:
        if len(ids) == 1:
            return Word(asked, tokenizer.texts(ids)[0], ids[0])
    parts = "; ".join(f"{way!r} as {', '.join(map(repr, tokenizer.texts(ids)))}" for way, ids in found)
    raise ElimError(
        f"{asked!r} is not a single token of this model: {parts}",
        "give a word that is, or one of these tokens",
    )


def _tokens(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    if text[0].isspace():
        return tokenizer.continuation(ANCHOR, text, special=False)
    return tokenizer.apart(text)


def folded(text: str) -> str:
    """Write a token without its space and case."""
    return text.strip().casefold()


def same_word(left: str, right: str) -> bool:
    """Tell whether two tokens write one word: other case or space, or a plural by suffix."""
    one, other = sorted((folded(left), folded(right)), key=len)
    if not one:
        return one == other
    plurals = {one + ending for ending in ENDINGS} | ({one[:-1] + "ies"} if one.endswith("y") else set())
    return other == one or other in plurals
