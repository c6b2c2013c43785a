"""DRY (don't repeat yourself): lower the logits of tokens that would continue a repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role, Stage


@dataclass(frozen=True)
class Match:
    """A token that would continue an n-gram seen before.

    Attributes:
        token: The token.
        ngram: The repeated token ids, which end the history and stand earlier in it before ``token``.
        penalty: What is taken off its logit.
    """

    token: int
    ngram: tuple[int, ...]
    penalty: float

    def __str__(self) -> str:
        return self._told(f"token {self.token}", str(list(self.ngram)))

    def told(self, spell: Callable[[int], str]) -> str:
        """The sentence of ``str`` with the text of the tokens in place of their ids."""
        return self._told(repr(spell(self.token)), repr("".join(spell(token) for token in self.ngram)))

    def _told(self, token: str, ngram: str) -> str:
        return (
            f"{token} would repeat the {len(self.ngram)}-gram {ngram} "
            f"one token further: its logit loses {self.penalty:.4g}"
        )


@dataclass(frozen=True)
class DRY(Stage):
    """Penalises every token that would extend a repetition, exponentially in the length already repeated.

    Formula: for each earlier position, L = length of its match with the end of the history; the token that
    followed it loses ``multiplier * base^(Lmax - allowed_length)`` if ``Lmax >= allowed_length``. Unit:
    logit. Removes nothing.
    Off: multiplier = 0, base < 1, or an empty window. Nothing happens while the window is not longer than
    allowed_length. L counts at most the tokens since the last breaker.

    Attributes:
        multiplier: Size of the penalty; a negative one rewards repetition.
        base: Growth per repeated token; 1 = flat.
        allowed_length: Repetition that is free; 0 penalises every token that ever followed anything.
        last_n: Window in tokens; ``None`` = whole history, 0 = off.
        negative_last_n: What a negative window means: ``off`` (llama.cpp) or ``all``.
        breakers: Strings that end a repetition; they act once the chain is given a vocabulary.
        breaker_tokens: Sequences of token ids that end a repetition.
        exempt_breakers: A token that alone is a breaker is never penalised (llama.cpp; KoboldCpp: it is).
        at_limit: Whether a match that the last breaker clamps to exactly allowed_length counts (KoboldCpp:
            no).
        max_match: Longest match counted (text-generation-webui: 50); 0 = any.
        clamp: Limit the exponent to what float32 can hold (llama.cpp, KoboldCpp).
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

    multiplier: float = 0.0
    base: float = 1.75
    allowed_length: int = 2
    last_n: int | None = None
    negative_last_n: Literal["off", "all"] = "all"
    breakers: tuple[str, ...] = ()
    breaker_tokens: tuple[tuple[int, ...], ...] = ()
    exempt_breakers: bool = True
    at_limit: bool = True
    max_match: int = 0
    clamp: bool = True

    def __post_init__(self) -> None:
        """Check the parameters."""
        self.number("multiplier", float("-inf"), float("inf"))
        self.number("base", 0, float("inf"))
        self.integer("allowed_length", 0)
        self.integer("max_match", 0)
        if self.last_n is not None:
            self.integer("last_n", -1)
        self.one_of("negative_last_n", ("off", "all"))
        for name in ("exempt_breakers", "at_limit", "clamp"):
            self.boolean(name)
        if not all(isinstance(s, str) and s for s in self.breakers):
            raise self.bad("breakers", "strings that are not empty")
        if not all(isinstance(s, tuple) and s for s in self.breaker_tokens):
            raise self.bad("breaker_tokens", "lists of token ids that are not empty")

    @property
    def window(self) -> int | None:
        """Length of the window, ``None`` = all."""
        return (
            None
            if self.last_n is not None and self.last_n < 0 and self.negative_last_n == "all"
            else self.last_n
        )

    def is_off(self) -> bool:
        """No penalty or no window."""
        return self.multiplier == 0 or self.base < 1 or (self.window is not None and self.window <= 0)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Lower what would repeat."""
        found = [self.matches(h.window("all", self.window)) for h in context.histories]
        unheard = "breakers given as strings do not act: the chain was given no vocabulary"
        notes = (unheard,) if self.breakers else ()
        if not any(found):
            return Effect(c, notes=notes)
        hits = [
            (row, m.token, m.penalty)
            for row, matches in enumerate(found)
            for m in matches
            if m.token < c.vocab
        ]
        device = c.scores.device
        tokens = torch.full((len(found), len(hits)), -1, device=device)
        for place, (row, token, _) in enumerate(hits):
            tokens[row, place] = token
        columns = c.columns_of(tokens)
        rows, places = (columns >= 0).nonzero(as_tuple=True)
        scores = c.scores.clone()
        penalties = torch.tensor([penalty for _, _, penalty in hits], dtype=scores.dtype, device=device)
        scores[rows, columns[rows, places]] -= penalties[places]
        details = tuple({m.token: m for m in matches} for matches in found)
        return Effect(c, scores=scores, notes=notes, details=details)

    def matches(self, window: Sequence[int]) -> list[Match]:
        """Every token that would extend a repetition in ``window``, each with its longest n-gram."""
        if len(window) <= self.allowed_length:
            return []
        limit = self._limit(window)
        if limit < self.allowed_length or (limit == self.allowed_length and not self.at_limit):
            return []
        limit = min(limit, self.max_match) if self.max_match else limit
        longest: dict[int, int] = {}
        for token, length in zip(window[1:], suffix_matches(window), strict=False):
            capped = min(length, limit)
            if capped >= self.allowed_length:
                longest[token] = max(capped, longest.get(token, 0))
        exempt = {s[0] for s in self.breaker_tokens if len(s) == 1} if self.exempt_breakers else set()
        return [
            Match(token, tuple(window[len(window) - length :]), self.penalty(length))
            for token, length in longest.items()
            if token not in exempt
        ]

    def penalty(self, length: int) -> float:
        """What a repetition of ``length`` tokens costs the logit of the next."""
        exponent = length - self.allowed_length
        if self.clamp and self.base > 1.000001:
            largest = torch.tensor(88.7228391) / torch.tensor(self.base, dtype=torch.float32).log()
            exponent = min(exponent, int(largest))
        return float(self.multiplier * self.base**exponent)

    def _limit(self, window: Sequence[int]) -> int:
        """Tokens since the last breaker, the window's length without one."""
        for distance in range(len(window)):
            start = len(window) - 1 - distance
            fits = [s for s in self.breaker_tokens if tuple(window[start : start + len(s)]) == s]
            if fits:
                return distance + 1 - max(len(s) for s in fits)
        return len(window)


def suffix_matches(tokens: Sequence[int]) -> Iterator[int]:
    """For each prefix of ``tokens`` but the whole, how many of its last tokens equal the last of the whole.

    Linear in the length: the Z function of the reversed sequence (Gusfield 1997).
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
