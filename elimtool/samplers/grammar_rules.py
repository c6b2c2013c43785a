"""Say of single tokens what a grammar does to them: refused, forced, or where a text has left the grammar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from elimtool.samplers.grammar_engine import GrammarPlace
from elimtool.samplers.stage import Detail


@dataclass(frozen=True)
class Forced:
    """The remark that a token is the only one that is allowed."""

    what: str
    token: int
    complete: bool

    def __str__(self) -> str:
        return self.told(str)

    def told(self, spell: Callable[[int], str]) -> str:
        """Say that it is forced."""
        why = "the text is complete and must end" if self.complete else f"the {self.what} allows no other"
        return f"{spell(self.token)!r} is forced: {why}"


@dataclass(frozen=True)
class Departed:
    """The remark that an earlier token left the grammar."""

    what: str
    valid: int
    token: int

    def __str__(self) -> str:
        return self.told(str)

    def told(self, spell: Callable[[int], str]) -> str:
        """Name the token."""
        return (
            f"what was written has left the {self.what} at its token {self.valid} (from 0),"
            f" {spell(self.token)!r}: nothing is removed from there on"
        )


@dataclass(frozen=True)
class Rejected:
    """The remark on how often the drawn token is rejected and drawn again."""

    what: str
    share: float

    def __str__(self) -> str:
        return self.told(str)

    def told(self, _: Callable[[int], str]) -> str:
        """Say how often."""
        return (
            f"the {self.what} rejects the drawn token with p = {self.share:.3g}: then the chain runs once"
            f" more, the {self.what} first"
        )


@dataclass(frozen=True)
class Refusal:
    """Why a grammar refuses a token, and what it allows there.

    Attributes:
        what: What refuses it, in words.
        state: Says in words where a text stands; empty where that is not known.
        written: The output so far.
        place: Where that stands in the grammar.
        likeliest: Allowed tokens, the most probable first.
        token: The token.
    """

    what: str
    state: Callable[[str], str]
    written: tuple[int, ...]
    place: GrammarPlace
    likeliest: tuple[int, ...]
    token: int

    def __str__(self) -> str:
        return self._told(str, "")

    def told(self, spell: Callable[[int], str]) -> str:
        """Return the sentence with tokens as text, and with the place in words where it is known."""
        state = self.state("".join(map(spell, self.written)))
        return self._told(spell, f" {state}" if state else "")

    def _told(self, spell: Callable[[int], str], where: str) -> str:
        some = ", ".join(repr(spell(token)) for token in self.likeliest)
        count = int(self.place.allowed.sum())
        rest = f" and {count - len(self.likeliest):,} more" if count > len(self.likeliest) else ""
        allowed = f"it allows {some}{rest}" if some else "nothing that was left is allowed"
        return f"the {self.what} refuses {spell(self.token)!r}{where or ' here'}; {allowed}"


class Refusals(Mapping[int, Detail]):
    """The refusals of a row, each made when it is asked for: a grammar can refuse the whole vocabulary."""

    def __init__(self, place: GrammarPlace, rule: Callable[[int], Refusal]) -> None:
        self._place, self._rule = place, rule

    def __getitem__(self, token: int) -> Refusal:
        allowed = self._place.allowed
        if self._place.refused or not 0 <= token < len(allowed) or allowed[token]:
            raise KeyError(token)
        return self._rule(token)

    def __iter__(self) -> Iterator[int]:
        return iter([] if self._place.refused else np.flatnonzero(~self._place.allowed).tolist())

    def __len__(self) -> int:
        return 0 if self._place.refused else int((~self._place.allowed).sum())
