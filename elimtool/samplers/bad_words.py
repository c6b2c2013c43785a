"""Bad words: ban the last token of sequences whose beginning the text ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from elimtool.errors import ElimError
from elimtool.samplers.ban import Ban, Rule, Rules
from elimtool.samplers.history import History, Scope
from elimtool.samplers.vocabulary import Vocabulary

Endings = dict[int, dict[tuple[int, ...], dict[int, int]]]


@dataclass(frozen=True)
class BadWords(Ban):
    """Bans sequences of tokens: the last of one, wherever the text ends with those before it.

    Formula: ban the last token of a word where the text ends with the rest. Off: no words.

    Attributes:
        words: Sequences of token ids; or texts, once the chain is given the vocabulary: each is spelled
            without a space before it and with one, this only if it has as many tokens and begins with
            another (vLLM).
        scope: Text that is matched: ``all`` (Hugging Face) or the output alone, ``generated`` (vLLM).
        most: Most sequences that the engine takes, both spellings of a text counted (vLLM: 128); ``null`` =
            any.
        eos: End-of-text tokens: a word that is one of them alone is not banned (Hugging Face drops it without
            a word); ``null`` = the model's own, once the chain is given them.
    """

    kind: ClassVar[str] = "bad_words"
    main: ClassVar[str] = "words"
    off: ClassVar[Mapping[str, Any] | None] = {"words": ()}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py NoBadWordsLogitsProcessor",
        "vLLM vllm/v1/sample/ops/bad_words.py",
    )
    on_device: ClassVar[bool] = True

    words: tuple[tuple[int, ...] | str, ...] = ()
    scope: Scope = "all"
    most: int | None = None
    eos: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for word in self.words:
            ids = isinstance(word, tuple) and word and all(isinstance(i, int) and i >= 0 for i in word)
            if not ids and not (isinstance(word, str) and word):
                raise self.bad("words", "lists of token ids, or texts, that are not empty")
        self.one_of("scope", ("all", "generated"))
        if self.most is not None:
            self.integer("most", 0)
            if len(self.words) > self.most:
                hint = f"leave {len(self.words) - self.most:,} out"
                raise ElimError(
                    f"{self.name}: the engine takes {self.most:,} sequences, got {len(self.words):,}", hint
                )

    @cached_property
    def _endings(self) -> Endings:
        """Last tokens by length and ids of what stands before them, each with its word's place."""
        found: Endings = {}
        for place, word in enumerate(self.words):
            if isinstance(word, str):
                continue
            if len(word) == 1 and word[0] in (self.eos or ()):
                continue
            found.setdefault(len(word) - 1, {}).setdefault(word[:-1], {})[word[-1]] = place
        return found

    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Find the words that the text would complete."""
        text = history.window(self.scope, None)
        found: dict[int, int] = {}
        for length, endings in self._endings.items():
            if length <= len(text):
                found |= endings.get(text[len(text) - length :], {})
        if outside := [token for token in found if token >= vocab]:
            raise ElimError(
                f"{self.name}: token id {outside[0]} is not in the vocabulary",
                f"ids go from 0 to {vocab - 1}",
            )
        return tuple(found), lambda token: self._rule(found[token])

    def _rule(self, place: int) -> Rule:
        word = self.words[place]
        return Rule(f"bad word {place}: {{}}", () if isinstance(word, str) else word)

    @property
    def wants_text(self) -> bool:
        """Whether some words are texts."""
        return any(isinstance(word, str) for word in self.words)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say where texts cannot act."""
        return ("texts do not act: the chain was given no vocabulary",) if self.wants_text else ()

    def spelled(self, vocabulary: Vocabulary, /) -> BadWords:
        """Turn texts into sequences of tokens.

        Raises:
            ElimError: A text has no token.
        """
        if vocabulary.encode is None or not self.wants_text:
            return self
        found: list[tuple[int, ...]] = []
        for word in self.words:
            if isinstance(word, tuple):
                found.append(word)
                continue
            plain, spaced = (tuple(vocabulary.encode(before + word.lstrip())) for before in ("", " "))
            if not plain:
                raise self.bad("words", "texts of at least one token")
            found.append(plain)
            if spaced and spaced[0] != plain[0] and len(spaced) == len(plain):
                found.append(spaced)
        return replace(self, words=tuple(found))
