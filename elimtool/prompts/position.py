"""Choose which tokens of a prompt to read: the last one, some by index, or all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from elimtool.errors import ElimError
from elimtool.prompts.prompt import WRITTEN

Position = int | str
"""``last``, ``all``, an index (from 0, or from the end if negative), or a list such as ``4,7-9``.

``written`` and ``written:4,7-9`` are the positions at which written tokens were predicted, each by the
token before it: ``written:0`` is where the first of them was. Written is what the model generated, else the
prefill.
"""
OnePosition = int | Literal["last"]

MOST_TOKENS = 24
"""Tokens that a message lists at most, half of them from each end."""

_RANGE = re.compile(r"(-?[0-9]{1,18})(?:-(-?[0-9]{1,18}))?")


@dataclass(frozen=True, slots=True)
class Positions:
    """A position as it was typed, read.

    Attributes:
        text: As typed.
        word: ``last``, ``all`` or, where ranges are given, empty.
        ranges: First and last index of each range, both included.
        written: Whether written tokens are meant, not those of the prompt.
    """

    text: str
    word: str
    ranges: tuple[tuple[int, int], ...] = ()
    written: bool = False

    @classmethod
    def of(cls, position: Position) -> Positions | None:
        """Read a position; ``None`` if it has none of the forms."""
        text = str(position)
        if text in ("last", "all"):
            return cls(text, text)
        if text == WRITTEN:
            return cls(text, "all", written=True)
        listed = text.removeprefix(f"{WRITTEN}:")
        found = [_RANGE.fullmatch(part.strip()) for part in listed.split(",")]
        if not all(found):
            return None
        ranges = tuple((int(one[1]), int(one[2] or one[1])) for one in found if one)
        return cls(text, "", ranges, listed != text)

    @property
    def single(self) -> bool:
        """Whether this is one token in every prompt."""
        return self.word == "last" or (len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1])

    @property
    def negative(self) -> bool:
        """Whether an index counts from the end."""
        return any(first < 0 or last < 0 for first, last in self.ranges)

    @property
    def needed(self) -> int:
        """Number of tokens that must be written for the indices that are given; 0 where they do not say."""
        return max((end + 1 for ends in self.ranges for end in ends), default=0) if self.written else 0

    def among(self, tokens: Sequence[str], written: Sequence[int] = ()) -> tuple[int, ...]:
        """List the indices in a prompt of these tokens, ascending, each once.

        Args:
            tokens: Texts of all tokens.
            written: Indices of the written ones among them, each after the one before.

        Raises:
            ElimError: One is outside the prompt, or nothing was written; the message lists the tokens.
        """
        if not self.written:
            return self._chosen(tokens, "the prompt", "last, or all")
        if not written:
            raise ElimError(
                f"`position` '{self.text}': nothing was written",
                "say how many tokens the model is to write with `generate`, or give a `prefill`",
            )
        if written[0] == 0:
            raise ElimError(
                f"`position` '{self.text}': the prefill begins within the prompt's first token",
                "no token before it predicts it: give a longer prompt",
            )
        chosen = self._chosen([tokens[index] for index in written], "the text written", f"or {WRITTEN}")
        return tuple(written[index] - 1 for index in chosen)

    def _chosen(self, tokens: Sequence[str], where: str, words: str) -> tuple[int, ...]:
        count = len(tokens)
        if self.word:
            return (count - 1,) if self.word == "last" else tuple(range(count))
        found: set[int] = set()
        for ends in self.ranges:
            for end in ends:
                if not -count <= end < count:
                    which = (
                        self.text if self.text.endswith(f"{end}") and self.single else f"{self.text}: {end}"
                    )
                    raise ElimError(
                        f"`position` {which} is outside {where}, which has {count:,} tokens",
                        f"give 0 to {count - 1}, -{count} to -1 from the end, {words}: {token_table(tokens)}",
                    )
            first, last = (end % count for end in ends)
            if first > last:
                raise _backwards(self.text, *ends)
            found.update(range(first, last + 1))
        return tuple(sorted(found))


def parse_position(text: str, *, several: bool = True, measured: bool = False) -> Position:
    """Read a position as a user types it; arguments and errors as ``check_position``."""
    position = int(text) if re.fullmatch("-?[0-9]{1,18}", text) else text
    check_position(position, several=several, measured=measured)
    return position


def check_position(position: Position, *, several: bool = True, measured: bool = False) -> Positions:
    """Read a position, and refuse what is none; indices are compared with each prompt later.

    Args:
        position: As typed.
        several: Whether more than one token is allowed.
        measured: Whether it chooses rows of tables, which are not numbered from the end or by written tokens.

    Raises:
        ElimError: It is not a position, or not one of the allowed kinds.
    """
    places = Positions.of(position)
    for first, last in places.ranges if places else ():
        if first > last and (first < 0) == (last < 0):
            raise _backwards(str(position), first, last)
    if places is None or not (several or places.single) or (measured and (places.negative or places.written)):
        forms = ["'last'", *(["'all'"] if several else []), "an index from 0"]
        forms += ["a list such as 4,7-9"] if several else []
        forms += [] if measured else [f"{WRITTEN}:0" if not several else f"{WRITTEN} or {WRITTEN}:0-9"]
        words = " or ".join([", ".join(forms[:-1]), forms[-1]])
        raise ElimError(f"`position` must be {words}, got '{position}'")
    return places


def _backwards(text: str, first: int, last: int) -> ElimError:
    return ElimError(f"`position` {text}: the range {first}-{last} runs backwards", f"give {last}-{first}")


def token_table(tokens: Sequence[str]) -> str:
    """List tokens with their indices for a message, of many the first and the last."""
    listed = [f"{index} {token!r}" for index, token in enumerate(tokens)]
    if len(listed) > MOST_TOKENS:
        half = MOST_TOKENS // 2
        listed = [*listed[:half], "...", *listed[-half:]]
    return ", ".join(listed)
