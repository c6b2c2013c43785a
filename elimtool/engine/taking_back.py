"""Take a text back that has come to hold a banned phrase, as KoboldCpp does while it writes (anti-slop).

A token is drawn as if there were no ban. Where the text then holds a phrase, it goes back to the token in
which the phrase begins, and that one is banned at its place. Bans at later places, the states of stages and
the number of tokens drawn stay as they are when a text goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elimtool.samplers.ban import Rule

if TYPE_CHECKING:
    from elimtool.samplers import Chain
    from elimtool.samplers.phrase_ban import PhraseBan


@dataclass(frozen=True, slots=True)
class Undone:
    """Tokens that were taken back.

    Attributes:
        stage: Name of the ban.
        rule: The phrase, and how far the text goes back.
        step: Place of the first of the tokens among those written, from 0: it is banned there.
        tokens: The tokens, those of the phrase.
        probs: Probability with which each was drawn.
        drawn: Tokens drawn so far, those that were taken back among them.
    """

    stage: str
    rule: Rule
    step: int
    tokens: tuple[int, ...]
    probs: tuple[float, ...]
    drawn: int


class TakingBack:
    """One text's phrase bans, and what they have banned at its places.

    Args:
        chain: The chain that it is written through.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain, self.bans = chain.without_phrase_bans()
        self.undone: list[Undone] = []
        self._banned: dict[int, tuple[int, ...]] = {}
        self._probs: list[float] = []
        self._out = [0] * len(self.bans)
        self._drawn = 0

    def chain_at(self, place: int) -> Chain:
        """Return the chain through which the token at a place is drawn."""
        tokens = self._banned.get(place)
        return self.chain if tokens is None else self.chain.with_soft_ban(tokens)

    def lasting(self, text: Sequence[int], tokens: Sequence[int]) -> tuple[int, ...]:
        """Return those of some tokens that would not be taken back if one were drawn now.

        Args:
            text: The tokens written.
            tokens: The tokens.
        """
        return tuple(token for token in tokens if self._goes_back((*text, token)) is None)

    def _goes_back(self, text: Sequence[int]) -> tuple[PhraseBan, Rule] | None:
        """Return the first ban that takes a text back, and how far."""
        for ban, out in zip(self.bans, self._given_out(len(text)), strict=True):
            if (rule := ban.taken_back(text[out:])) is not None:
                return ban, rule
        return None

    def _given_out(self, length: int) -> list[int]:
        """Return how many tokens of a text each ban no longer looks at."""
        return [max(out, length - (ban.held or 1)) for ban, out in zip(self.bans, self._out, strict=True)]

    def look(self, text: Sequence[int], prob: float) -> Undone | None:
        """Look at a text whose last token was drawn just now.

        Args:
            text: The tokens written.
            prob: Probability with which the last one was drawn.

        Returns:
            What is to be taken back; ``None`` for nothing.
        """
        self._drawn += 1
        self._probs = [*self._probs[: len(text) - 1], prob]
        # what was once given out is not looked at again, also when the text is shorter than it was
        self._out = self._given_out(len(text))
        if (goes := self._goes_back(text)) is None:
            return None
        ban, rule = goes
        step = len(text) - rule.back
        found = Undone(ban.name, rule, step, tuple(text[step:]), tuple(self._probs[step:]), self._drawn)
        self._banned[step] = (*self._banned.get(step, ()), text[step])
        self.undone.append(found)
        return found
