"""Share what stages do that ban a set of tokens: mask, rules, and rows that would be emptied."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from elimtool.numerics.transfer import sent
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.history import History
from elimtool.samplers.stage import Context, Effect, Fate, Role, Stage


@dataclass(frozen=True)
class Rule:
    """Why a token is banned.

    Attributes:
        text: The rule, with ``{}`` for the tokens.
        tokens: Token ids that stand in it.
        bound: What would let the token through; empty where nothing would.
        least: The number in it: the least value of the stage's main parameter, or tokens still to come.
        back: Tokens that the text is taken back, the banned one among them; 0 where it is not.
    """

    text: str
    tokens: tuple[int, ...] = ()
    bound: str = ""
    least: float | None = None
    back: int = 0

    def __str__(self) -> str:
        return self._told(" ".join(map(str, self.tokens)))

    def told(self, spell: Callable[[int], str]) -> str:
        """Return the sentence of ``str``, with the tokens' texts instead of their ids."""
        return self._told(repr("".join(spell(token) for token in self.tokens)))

    def _told(self, tokens: str) -> str:
        return self.text.format(tokens) + (f"; {self.bound}" if self.bound else "")


Rules = Callable[[int], Rule]
"""Makes the rule that bans a token."""


@dataclass(frozen=True)
class Ban(Stage):
    """Removes tokens by their ids, not by their probabilities: there is neither threshold nor margin."""

    role: ClassVar[Role] = "ban"

    @property
    def notes(self) -> tuple[str, ...]:
        """Return remarks for the reader."""
        return ()

    @abstractmethod
    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Return the tokens that are banned after a history, and the rule of each."""

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Remove what is banned, even where nothing is left then."""
        found = [self.banned(history, c.vocab) for history in context.histories]
        acts = torch.tensor([bool(tokens) for tokens, _ in found])
        if not bool(acts.any()):
            return Effect(c, active=acts, notes=self.notes)
        table = _others([tokens for tokens, _ in found], c)
        keep = table if c.tokens is None else table.gather(1, c.ids)
        rules = tuple(Banned(frozenset(tokens), rule) for tokens, rule in found)
        return Effect(c, keep=keep, active=acts, notes=self.notes, rules=rules)

    def why(self, _: Fate, /) -> str:
        """Explain: it is banned."""
        return f"banned by {self.name}"


def _others(banned: Sequence[tuple[int, ...]], c: Candidates) -> Bool[Tensor, "rows vocab"]:
    """Mark the tokens of the vocabulary that are not banned in each row."""
    if not c.masked:
        table = torch.ones((len(banned), c.vocab), dtype=torch.bool)
        for row, tokens in enumerate(banned):
            table[row, list(tokens)] = False
        return table
    places = torch.full((len(banned), max(map(len, banned))), c.vocab)
    for row, tokens in enumerate(banned):
        places[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    there = torch.ones((len(banned), c.vocab + 1), dtype=torch.bool, device=c.scores.device)
    return there.scatter_(1, sent(places, c.scores.device), False)[:, : c.vocab]


class Banned(Mapping[int, Rule]):
    """The rules of a row's banned tokens, each made when it is asked for: a ban can have thousands."""

    def __init__(self, tokens: frozenset[int], rule: Rules) -> None:
        self._tokens, self._rule = tokens, rule

    def __getitem__(self, token: int) -> Rule:
        if token not in self._tokens:
            raise KeyError(token)
        return self._rule(token)

    def __iter__(self) -> Iterator[int]:
        return iter(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)
