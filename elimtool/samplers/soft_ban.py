"""Soft ban: sink chosen tokens under the least probable one, as KoboldCpp bans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.stage import Context, Effect, Role, Stage
from elimtool.samplers.vocabulary import Vocabulary, lowered

LONG = 12
"""Bytes from which a banned text is a phrase (KoboldCpp)."""


@dataclass(frozen=True)
class SoftBan(Stage):
    """Lowers chosen tokens to 8 under the smallest logit: they survive, mostly too improbable to draw.

    Formula: ``l = min l - 8`` for banned tokens, or ``l = 0`` where the smallest logit is not negative: a
    banned token that was the best can then still be drawn. Unit: logit. Removes nothing. Off: no tokens and
    no words.

    Attributes:
        tokens: Token ids.
        words: Texts: every token that contains one is banned, whatever its case, once the chain is given the
            vocabulary. KoboldCpp does so with what it is given as banned_tokens where that is one token of
            under 12 letters; what is longer becomes a ``phrase_ban`` at the end of the chain.
        eos: Tokens that end a text and are banned too (KoboldCpp's ban_eos_token); ``null`` = the model's
            own, once the chain is given them, where ``ends`` is set.
        ends: Whether the ends of the text are banned.
    """

    kind: ClassVar[str] = "soft_ban"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "tokens"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"tokens": (), "words": (), "ends": False}
    sources: ClassVar[tuple[str, ...]] = ("koboldcpp gpttype_adapter.cpp LowestLogit",)
    on_device: ClassVar[bool] = True

    tokens: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    ends: bool = False
    eos: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(token, int) and token >= 0 for token in self.tokens):
            raise self.bad("tokens", "a list of token ids")
        if not all(isinstance(word, str) and word for word in self.words):
            raise self.bad("words", "a list of texts that are not empty")
        self.boolean("ends")

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Sink what is banned."""
        banned = sorted({*self.tokens, *((self.eos or ()) if self.ends else ())})
        if banned and banned[-1] >= c.vocab:
            hint = f"ids go from 0 to {c.vocab - 1}"
            raise ElimError(f"{self.name}: token id {banned[-1]} is not in the vocabulary", hint)
        notes = ("words do not act: the chain was given no vocabulary",) if self.words else ()
        least = c.scores.masked_fill(c.scores == NEG_INF, torch.inf).amin(-1, keepdim=True)
        sunk = torch.where(least < 0, least - 8, torch.zeros_like(least)).expand_as(c.scores)
        hit = c.among(banned) & c.alive
        return Effect(c, scores=torch.where(hit, sunk, c.scores), notes=notes, active=hit.any(-1))

    @property
    def wants_text(self) -> bool:
        """Whether there are words."""
        return bool(self.words)

    def spelled(self, vocabulary: Vocabulary, /) -> SoftBan:
        """Turn the words into the tokens that contain one; leave out those that are phrases."""
        phrases = self.phrases(vocabulary)
        words = [lowered(word) for word in self.words if word not in phrases]
        folded = map(lowered, vocabulary.pieces if words else ())
        found = [token for token, piece in enumerate(folded) if any(word in piece for word in words)]
        return replace(self, words=(), tokens=tuple(sorted({*self.tokens, *found})))

    def phrases(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """List the words that KoboldCpp takes back once they are written: of several tokens, or 12 bytes."""
        if (encode := vocabulary.encode) is None:
            return ()
        sizes = {word: len(encode(lowered(word))) for word in self.words}
        return tuple(word for word, n in sizes.items() if n > 1 or (n and len(word.encode()) >= LONG))
