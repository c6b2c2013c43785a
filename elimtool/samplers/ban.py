"""Share what stages do that ban a set of tokens: mask, rules, and rows that would be emptied."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

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
    """

    text: str
    tokens: tuple[int, ...] = ()
    bound: str = ""

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

    @abstractmethod
    def banned(self, history: History, vocab: int, /) -> tuple[tuple[int, ...], Rules]:
        """Return the tokens that are banned after a history, and the rule of each."""

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Remove what is banned; a row that would be emptied is left as it is, and a note says so."""
        found = [self.banned(history, c.vocab) for history in context.histories]
        acts = torch.tensor([bool(tokens) for tokens, _ in found])
        if not bool(acts.any()):
            return Effect(c, active=acts)
        table = torch.ones((len(found), c.vocab), dtype=torch.bool)
        for row, (tokens, _) in enumerate(found):
            table[row, list(tokens)] = False
        keep = table if c.tokens is None else table.gather(1, c.ids)
        empty = ~(keep & c.alive).any(-1)
        rules = tuple(
            Banned(frozenset(tokens), rule) if not spared else Banned(frozenset(), rule)
            for (tokens, rule), spared in zip(found, empty.tolist(), strict=True)
        )
        notes = tuple(
            f"row {row}: {self.name} bans every token that is left, where engines raise or emit token 0;"
            " shown without it"
            for row in empty.nonzero()[:4, 0].tolist()
        )
        return Effect(c, keep=keep | empty[:, None], active=acts & ~empty, rules=rules, notes=notes)

    def why(self, _: Fate, /) -> str:
        """Explain: it is banned."""
        return f"banned by {self.name}"


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
