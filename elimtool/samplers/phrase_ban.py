"""Phrase ban: what a text may not come to hold, however its tokens spell it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from elimtool.samplers.ban import Ban, Rule, Rules
from elimtool.samplers.history import History
from elimtool.samplers.vocabulary import Vocabulary, lowered

BUFFER = 3
"""Tokens that KoboldCpp holds back besides those of the longest phrase."""


@dataclass(frozen=True)
class PhraseBan(Ban):
    """Bans every token that would complete a phrase in the output, whatever its case and spelling.

    Formula: ban v where the held-back output and v together hold a phrase that ends in v. It stands last:
    KoboldCpp (anti-slop) samples, looks at the text, and takes it back to the token in which the phrase
    begins, which it then bans at that place. So what this stage removes is the probability that the text is
    taken back from here; what it leaves is how texts go on that were not. Texts that are drawn (``generate``,
    ``watch``, sampled ``paths``) do as KoboldCpp does instead: they are drawn without this stage, taken back,
    and the token is banned there by ``soft_ban``. Off: no phrases.

    Attributes:
        phrases: Texts, once the chain is given the vocabulary.
        held: Tokens of the output that are held back and looked at; ``null`` = those of the longest phrase
            and 3 more.
        eos: Tokens that end a text, which spell nothing; ``null`` = the model's own, once the chain is
            given them.
    """

    kind: ClassVar[str] = "phrase_ban"
    main: ClassVar[str] = "phrases"
    off: ClassVar[Mapping[str, Any] | None] = {"phrases": ()}
    sources: ClassVar[tuple[str, ...]] = ("koboldcpp kcpp_src/gpttype_adapter.cpp gpttype_generate",)
    on_device: ClassVar[bool] = True

    phrases: tuple[str, ...] = ()
    held: int | None = None
    eos: tuple[int, ...] | None = None
    pieces: Sequence[str] = field(default=(), kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not all(isinstance(phrase, str) and phrase for phrase in self.phrases):
            raise self.bad("phrases", "a list of texts that are not empty")
        if self.held is not None:
            self.integer("held", 1)

    @property
    def wants_text(self) -> bool:
        """Whether there are phrases and no vocabulary to spell them."""
        return bool(self.phrases) and not self.pieces

    def spelled(self, vocabulary: Vocabulary, /) -> PhraseBan:
        """Take over the spelling of the tokens, and how many have to be held back."""
        ends = set(self.eos or ())
        pieces = ["" if token in ends else lowered(one) for token, one in enumerate(vocabulary.pieces)]
        held = self.held
        if held is None:
            encode = vocabulary.encode or (lambda text: range(len(text)))
            held = BUFFER + max((len(encode(lowered(one))) for one in self.phrases), default=0)
        return replace(self, held=held, pieces=pieces)

    @cached_property
    def _sorted(self) -> tuple[list[str], list[int]]:
        """The spellings in order, and whose they are."""
        order = sorted(range(len(self.pieces)), key=self.pieces.__getitem__)
        return [self.pieces[token] for token in order], order

    @cached_property
    def _begun(self) -> dict[str, list[int]]:
        """Beginnings of phrases, each with the places of the phrases that have it."""
        found: dict[str, list[int]] = {}
        for place, phrase in enumerate(map(lowered, self.phrases)):
            for end in range(1, len(phrase)):
                found.setdefault(phrase[:end], []).append(place)
        return found

    @cached_property
    def _whole(self) -> dict[int, int]:
        """Tokens that hold a whole phrase, with its place."""
        places = {lowered(phrase): place for place, phrase in reversed(list(enumerate(self.phrases)))}
        lengths = sorted({len(phrase) for phrase in places})
        found: dict[int, int] = {}
        for token, piece in enumerate(self.pieces):
            for length in lengths[: bisect_right(lengths, len(piece))]:
                for begin in range(len(piece) - length + 1):
                    if (place := places.get(piece[begin : begin + length])) is not None:
                        found.setdefault(token, place)
        return found

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.phrases), default=0)

    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Find the tokens that complete a phrase."""
        if not self.pieces:
            return (), lambda _: Rule("")
        recent = history.window("generated", (self.held or 1) - 1)  # one place is the next token's
        spelled = ["" if token >= len(self.pieces) else self.pieces[token] for token in recent]
        tail = "".join(spelled)
        found = {token: (place, 0) for token, place in self._whole.items() if token < vocab}
        for size in range(1, min(len(tail), self._longest - 1) + 1):
            for place in self._begun.get(tail[len(tail) - size :], ()):
                rest = lowered(self.phrases[place])[size:]
                found |= {token: (place, size) for token in self._beginning(rest) if token < vocab}
        return tuple(found), lambda token: self._rule(*found[token], token, recent, spelled)

    def taken_back(self, text: Sequence[int]) -> Rule | None:
        """Return how far a text is taken back, by which phrase; ``None`` where it holds none.

        Args:
            text: Tokens that are held back, the one that was drawn last among them. The first phrase of the
                list that they hold counts, and goes back by the fewest last tokens that hold it.
        """
        spelled = ["" if token >= len(self.pieces) else self.pieces[token] for token in text]
        whole = "".join(spelled)
        for place, phrase in enumerate(map(lowered, self.phrases)):
            if phrase in whole:
                back = 1
                while phrase not in "".join(spelled[-back:]):
                    back += 1
                return self._going_back(place, text[-back], back)
        return None

    def _beginning(self, text: str) -> Sequence[int]:
        """List the tokens whose spelling begins with a text."""
        pieces, tokens = self._sorted
        return tokens[bisect_left(pieces, text) : bisect_right(pieces, text + chr(0x10FFFF))]

    def _rule(self, place: int, size: int, token: int, recent: Sequence[int], spelled: Sequence[str]) -> Rule:
        back = len(recent)
        while size > 0:  # to the token in which the phrase begins
            back -= 1
            size -= len(spelled[back])
        first = recent[back] if back < len(recent) else token
        return self._going_back(place, first, len(recent) - back + 1)

    def _going_back(self, place: int, first: int, steps: int) -> Rule:
        phrase = repr(self.phrases[place]).replace("{", "{{").replace("}", "}}")
        far = f"{steps:,} token" + ("s" if steps > 1 else "")
        said = f"completes the banned phrase {phrase}: the text goes back {far}, {{}} is banned there"
        return Rule(said, (first,), back=steps)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say where phrases cannot act."""
        return ("phrases do not act: the chain was given no vocabulary",) if self.wants_text else ()
