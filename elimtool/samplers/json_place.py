"""Say in words where in a JSON value a text that begins one ends."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass
class _Open:
    """An object or array that is not closed: the name that was read last, and whether its value comes."""

    bracket: str
    name: str = ""
    valued: bool = False
    items: int = 0


def place_in_json(text: str) -> str:
    """Say where the beginning of a JSON value ends, such as "the text of 'capital'".

    Args:
        text: The beginning of a JSON value, valid so far.
    """
    inside: list[_Open] = []
    at = 0
    while at < len(text):
        if text[at] == '"':
            end = _QUOTED.match(text, at)
            if end is None:
                return _told(inside, True, text)
            if inside and inside[-1].bracket == "{" and not inside[-1].valued:
                inside[-1].name = end[1]
            at = end.end()
            continue
        _step(inside, text[at])
        at += 1
    return _told(inside, False, text)


_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def _step(inside: list[_Open], letter: str) -> None:
    """Open, close or move on by a letter outside texts."""
    if letter in "{[":
        inside.append(_Open(letter))
    elif letter in "}]" and inside:
        inside.pop()
    elif letter == ":" and inside:
        inside[-1].valued = True
    elif letter == "," and inside:
        inside[-1].valued, inside[-1].items = False, inside[-1].items + 1


def _told(inside: list[_Open], quoted: bool, text: str) -> str:
    if not inside:
        return "inside a text" if quoted else "after the value" if text.strip() else "at the beginning"
    last = inside[-1]
    if last.bracket == "[":
        owner = next((one.name for one in reversed(inside) if one.valued), "")
        of = f" of '{owner}'" if owner else ""
        return f"in the text of item {last.items}{of}" if quoted else f"at item {last.items}{of}"
    if not last.valued:
        return "in the name of a property" if quoted else "where a property's name or the end is due"
    return f"in the text of '{last.name}'" if quoted else f"in the value of '{last.name}'"
