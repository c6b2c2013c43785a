"""DRY (don't repeat yourself): lower the logits of tokens that would continue a repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.history import WINDOWS, Window, window_length
from elimtool.samplers.stage import Context, Effect, Role, Stage
from elimtool.samplers.vocabulary import Vocabulary


@dataclass(frozen=True)
class Match:
    """A token that would continue a repetition.

    Attributes:
        token: The token.
        ngram: The repeated token ids: the end of the history, found earlier in it before ``token``.
        penalty: How much its logit is lowered.
    """

    token: int
    ngram: tuple[int, ...]
    penalty: float

    def __str__(self) -> str:
        return self._told(f"token {self.token}", str(list(self.ngram)))

    def told(self, spell: Callable[[int], str]) -> str:
        """Return the sentence of ``str``, with the tokens' texts instead of their ids."""
        return self._told(repr(spell(self.token)), repr("".join(spell(token) for token in self.ngram)))

    def _told(self, token: str, ngram: str) -> str:
        return (
            f"{token} would repeat the {len(self.ngram):,}-gram {ngram} "
            f"one token further: its logit loses {self.penalty:.4g}"
        )


@dataclass(frozen=True)
class DRY(Stage):
    """Penalises every token that would extend a repetition, exponentially in the length already repeated.

    Formula: for each earlier position, L = length of its match with the end of the history; the token that
    followed it loses ``multiplier * base^(Lmax - allowed_length)`` if ``Lmax >= allowed_length``. Unit:
    logit. Removes nothing.
    Off: multiplier = 0 (negative ones too without ``rewards``), base < 1, or an empty window. Nothing happens
    while the window is not longer than allowed_length. L counts at most the tokens since the last breaker.

    Attributes:
        multiplier: Size of the penalty; a negative one rewards repetition, where ``rewards`` is set.
        rewards: Whether a negative multiplier acts (llama.cpp), or turns the stage off (KoboldCpp,
            text-generation-webui).
        base: Growth per repeated token; 1 = flat.
        allowed_length: Repetition that is free; 0 penalises every token that ever followed anything.
        last_n: Window in tokens; ``None`` = whole history, 0 = off.
        negative_last_n: What a negative window means: ``off`` (llama.cpp), ``all``, or ``all_at_zero``, which
            0 means too (KoboldCpp, text-generation-webui).
        breakers: Strings that end a repetition; they act once the chain is given a vocabulary.
        breakers_are: The tokens that a string stands for: all ``holding`` it (llama.cpp, KoboldCpp), or the
            ``last`` one of the string behind a letter (text-generation-webui).
        breaker_tokens: Sequences of token ids that end a repetition.
        exempt_breakers: A token that alone is a breaker is never penalised (llama.cpp; KoboldCpp: it is).
        at_limit: Whether a match that the last breaker clamps to exactly allowed_length counts (KoboldCpp:
            no).
        min_match: Shortest match counted (text-generation-webui: 1, so that allowed_length 0 is 1 there).
        max_match: Longest match counted (text-generation-webui: 50); 0 = any.
        clamp: Limit the exponent to what float32 can hold (llama.cpp, KoboldCpp).
        off_base: Bases that turn the stage off: those ``under_one`` (llama.cpp), or ``zero`` (KoboldCpp,
            where penalties of a base between shrink with length).
    """

    kind: ClassVar[str] = "dry"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "multiplier"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"multiplier": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "text-generation-webui pull request 5677",
        "llama.cpp src/llama-sampler.cpp llama_sampler_dry",
        "koboldcpp gpttype_adapter.cpp sample_dry",
    )
    on_device: ClassVar[bool] = True

    multiplier: float = 0.0
    rewards: bool = True
    base: float = 1.75
    allowed_length: int = 2
    last_n: int | None = None
    negative_last_n: Window = "all"
    breakers: tuple[str, ...] = ()
    breakers_are: Literal["holding", "last"] = "holding"
    breaker_tokens: tuple[tuple[int, ...], ...] = ()
    exempt_breakers: bool = True
    at_limit: bool = True
    min_match: int = 0
    max_match: int = 0
    clamp: bool = True
    off_base: Literal["under_one", "zero"] = "under_one"

    def __post_init__(self) -> None:
        self.number("multiplier", float("-inf"), float("inf"))
        self.number("base", 0, float("inf"))
        self.integer("allowed_length", 0)
        self.integer("min_match", 0)
        self.integer("max_match", 0)
        if self.last_n is not None:
            self.integer("last_n", -1)
        self.one_of("negative_last_n", WINDOWS)
        self.one_of("breakers_are", ("holding", "last"))
        self.one_of("off_base", ("under_one", "zero"))
        for name in ("rewards", "exempt_breakers", "at_limit", "clamp"):
            self.boolean(name)
        if not all(isinstance(s, str) and s for s in self.breakers):
            raise self.bad("breakers", "strings that are not empty")
        if not all(isinstance(s, tuple) and s for s in self.breaker_tokens):
            raise self.bad("breaker_tokens", "lists of token ids that are not empty")

    @property
    def window(self) -> int | None:
        """Length of the window; ``None`` for all tokens."""
        return window_length(self.last_n, self.negative_last_n)

    @property
    def wants_text(self) -> bool:
        """Whether breakers are strings."""
        return bool(self.breakers)

    def spelled(self, vocabulary: Vocabulary, /) -> DRY:
        """Find the tokens that contain a breaker, or end with its first part; the rest of it is tokenized."""
        found: dict[tuple[int, ...], None] = dict.fromkeys(self.breaker_tokens)
        if self.breakers_are == "last":
            spelled = map(vocabulary.encode or (lambda _: ()), (f"a{text}" for text in self.breakers))
            found |= {(ids[-1],): None for ids in spelled if ids}
            return replace(self, breakers=(), breaker_tokens=tuple(found))
        for text in self.breakers:
            for token, piece in enumerate(vocabulary.pieces):
                if text in piece:
                    found[(token,)] = None
                    continue
                if (encode := vocabulary.encode) is None:
                    continue
                for length in range(min(len(text) - 1, len(piece)), 0, -1):
                    if piece.endswith(text[:length]):
                        found[(token, *encode(text[length:]))] = None
                        break
        return replace(self, breakers=(), breaker_tokens=tuple(found))

    def is_off(self) -> bool:
        """Return whether there is no penalty or no window."""
        without = self.base < 1 if self.off_base == "under_one" else self.base == 0
        off = self.multiplier == 0 or (self.multiplier < 0 and not self.rewards)
        return off or without or (self.window is not None and self.window <= 0)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Lower the logits of tokens that would extend a repetition."""
        found = [self.matches(h.window("all", self.window)) for h in context.histories]
        unheard = "breakers given as strings do not act: the chain was given no vocabulary"
        notes = (unheard,) if self.breakers else ()
        if not any(found):
            return Effect(c, notes=notes)
        scores = c.scores.clone()
        tokens = torch.full((len(found), max(map(len, found))), -1)
        penalties = torch.zeros(tokens.shape, dtype=scores.dtype)
        for row, matches in enumerate(found):
            for place, match in enumerate(m for m in matches if m.token < c.vocab):
                tokens[row, place], penalties[row, place] = match.token, match.penalty
        c.change(scores, tokens, torch.sub, penalties)
        details = tuple({m.token: m for m in matches} for matches in found)
        return Effect(c, scores=scores, notes=notes, details=details)

    def matches(self, window: Sequence[int]) -> list[Match]:
        """Find the tokens that would extend a repetition in ``window``, each with its longest n-gram."""
        if len(window) <= self.allowed_length:
            return []
        limit = self._limit(window)
        if limit < self.allowed_length or (limit == self.allowed_length and not self.at_limit):
            return []
        limit = min(limit, self.max_match) if self.max_match else limit
        least = max(self.allowed_length, self.min_match)
        longest: dict[int, int] = {}
        for token, length in zip(window[1:], suffix_matches(window), strict=False):
            capped = min(length, limit)
            if capped >= least:
                longest[token] = max(capped, longest.get(token, 0))
        exempt = {s[0] for s in self.breaker_tokens if len(s) == 1} if self.exempt_breakers else set()
        return [
            Match(token, tuple(window[len(window) - length :]), self.penalty(length))
            for token, length in longest.items()
            if token not in exempt
        ]

    def penalty(self, length: int) -> float:
        """Return the penalty of a token that would extend a repetition of ``length`` tokens."""
        exponent = length - self.allowed_length
        if self.clamp and self.base > 1.000001:
            # as llama.cpp and KoboldCpp: ln of the largest float32 over ln(base), in float32
            largest = torch.tensor(88.7228391) / torch.tensor(self.base, dtype=torch.float32).log()
            exponent = min(exponent, int(largest))
        return float(self.multiplier * self.base**exponent)

    def _limit(self, window: Sequence[int]) -> int:
        """Count the tokens since the last breaker; without one, all of the window."""
        for distance in range(len(window)):
            start = len(window) - 1 - distance
            fits = [s for s in self.breaker_tokens if tuple(window[start : start + len(s)]) == s]
            if fits:
                return distance + 1 - max(len(s) for s in fits)
        return len(window)


def suffix_matches(tokens: Sequence[int]) -> Iterator[int]:
    """For each proper prefix of ``tokens``, count how many of its last tokens equal the last of the whole.

    Takes linear time: the Z function of the reversed sequence (Gusfield 1997).
    """
    text = list(reversed(tokens))
    n = len(text)
    length = [0] * n
    left = right = 0
    for i in range(1, n):
        if i < right:
            length[i] = min(right - i, length[i - left])
        while i + length[i] < n and text[length[i]] == text[i + length[i]]:
            length[i] += 1
        if i + length[i] > right:
            left, right = i, i + length[i]
    return iter(length[:0:-1])
