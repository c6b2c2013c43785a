"""Number positions for people: by token, or where the model wrote by the token written there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elimtool.files.rows import Row
from elimtool.prompts.prompt import WRITTEN


@dataclass(frozen=True)
class Numbering:
    """How the probed positions of a prompt are numbered, on the screen as in ``position``.

    Attributes:
        positions: Indices of the probed query tokens, ascending.
        first: Position at which the first written token was predicted; None where not all are such positions.
    """

    positions: tuple[int, ...]
    first: int | None = None

    @classmethod
    def of(cls, prompt: Row, positions: Sequence[int]) -> Numbering:
        """Number the probed positions of a prompt."""
        end = len(prompt["tokens"] or ()) - (prompt["n_appended"] or 0)
        written = prompt.get("n_written") or prompt.get("n_prefill") or 0
        first = end - written - 1
        inside = written and positions and first <= positions[0] and positions[-1] < end - 1
        return cls(tuple(positions), first if inside else None)

    @property
    def word(self) -> str:
        """What the numbers are of: ``written`` or ``position``."""
        return "position" if self.first is None else WRITTEN

    def token(self, prompt: Row, position: int) -> str:
        """Text beside a position: the token that was written there, or the one that it is the index of."""
        return str(prompt["tokens"][position + (self.first is not None)])

    def last(self, prompt: Row) -> int:
        """Index of the last position of a prompt, or of the last at which a written token was predicted."""
        return len(prompt["tokens"]) - 1 - (self.first is not None)

    def number(self, position: int) -> int:
        """Number of a position: its index, or that of the written token which is predicted there, from 0."""
        return position - (self.first or 0)

    def name(self, position: int) -> str:
        """Name a position in a sentence: ``written 3``."""
        return f"{self.word} {self.number(position):,}"

    def typed(self, position: int) -> str:
        """Write a position as a user types it: ``written:3``, or the index."""
        return f"{position}" if self.first is None else f"{WRITTEN}:{self.number(position)}"
