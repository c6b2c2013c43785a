"""Find the tokens of concepts, sets of words that are followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.metrics.concepts import concept
from elimtool.metrics.metric import Concept
from elimtool.model.model import Model


def read_concepts(
    model: Model, named: Mapping[str, Sequence[str]], prior: Float[Tensor, "vocab"] | None
) -> tuple[Concept, ...]:
    """Find the tokens of each concept, and sets as frequent.

    Args:
        model: For its tokenizer.
        named: Words by the concept's name.
        prior: Logarithm of p_0; ``None`` without a fitted lens.

    Raises:
        ElimError: Two concepts share a token, so that neither says anything of its own.
    """
    owners: dict[int, str] = {}
    found = []
    for name, words in named.items():
        ids = word_tokens(model, words)
        for token in ids:
            if (other := owners.setdefault(token, name)) != name:
                text = model.tokenizer.texts([token])[0]
                raise ElimError(
                    f"`concepts` '{other}' and '{name}' both have words that begin with the token '{text}'",
                    "leave the word out of one of them: sets that share a word cannot be told apart",
                )
        found.append(concept(name, ids, prior))
    return tuple(found)


def word_tokens(model: Model, words: Sequence[str]) -> tuple[int, ...]:
    """List the tokens of words, each once: of each its spellings with and without a space before it.

    A spelling of several tokens begins with a piece that many words begin with ('f' of 'frost'), so it counts
    only where the word has no other: then the first token of the one with a space.
    """
    return tuple(dict.fromkeys(token for word in words for token in _spellings(model, word)))


def pieces(model: Model, words: Sequence[str]) -> dict[str, str]:
    """Name the words that are no token of the model, each with the token that it is followed by."""
    found = {}
    for word in words:
        if len(_tokens(model, f" {word}")) > 1 and len(_tokens(model, word)) > 1:
            found[word] = model.tokenizer.texts([_tokens(model, f" {word}")[0]])[0]
    return found


def _spellings(model: Model, word: str) -> list[int]:
    spaced, plain = _tokens(model, f" {word}"), _tokens(model, word)
    whole = [some[0] for some in (spaced, plain) if len(some) == 1]
    return whole or spaced[:1]


def _tokens(model: Model, text: str) -> list[int]:
    """Tokens of a text without one of a space alone that begins it."""
    ids = list(model.tokenizer.encode(text, special=False).ids)
    blank = set(model.tokenizer.encode(" ", special=False).ids)
    return ids[1:] if len(ids) > 1 and ids[0] in blank else ids
