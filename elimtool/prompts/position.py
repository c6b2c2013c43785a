"""Choose which tokens of a prompt to read: the last one, one by index, or all."""

from __future__ import annotations

from typing import Literal

from elimtool.errors import ElimError

Position = int | Literal["last", "all"]
OnePosition = int | Literal["last"]


def parse_position(text: str, *, several: bool = True) -> Position:
    """Read a position as a user types it.

    Args:
        text: ``last``, ``all`` or an index from 0.
        several: Whether ``all`` is allowed.

    Raises:
        ElimError: The text is something else.
    """
    position = int(text) if text.isdecimal() else text
    check_position(position, several=several)
    return position  # type: ignore[return-value]  # checked above


def check_position(position: int | str, *, several: bool = True) -> None:
    """Refuse a word that is not a position; an index is checked later, against each prompt.

    Raises:
        ElimError: The word is neither ``last`` nor, where ``several`` are allowed, ``all``.
    """
    if isinstance(position, str) and position not in (("last", "all") if several else ("last",)):
        words = "'last', 'all' or" if several else "'last' or"
        raise ElimError(f"`position` must be {words} an index from 0, got '{position}'")
