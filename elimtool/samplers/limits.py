"""Refuse parameter values that an engine refuses: each preset lists the values that its engine accepts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf

from elimtool.errors import ElimError

_MOST = re.compile(r"^at most (?P<most>\d+) entries$")
_INTERVAL = re.compile(r"^(?P<open>[\[(])(?P<low>[^,]+), (?P<high>[^,]+)(?P<close>[\])])$")


def accepts(allowed: str, value: float) -> bool:
    """Return whether a value is allowed.

    Args:
        allowed: Numbers and intervals, such as ``-1 or [1, inf)``.
        value: The value.

    Raises:
        ElimError: ``allowed`` is not of that form.
    """
    return any(_within(part.strip(), value) for part in allowed.split(" or "))


def _within(part: str, value: float) -> bool:
    interval = _INTERVAL.match(part)
    if interval is None:
        return value == _number(part)
    low, high = _number(interval["low"]), _number(interval["high"])
    above = value >= low if interval["open"] == "[" else value > low
    return above and (value <= high if interval["close"] == "]" else value < high)


def _number(text: str) -> float:
    try:
        return {"inf": inf, "-inf": -inf}.get(text.strip()) or float(text)
    except ValueError as error:
        raise ElimError(
            f"limits: '{text}' is not a number", "write them as [0, 2], -1 or [1, inf), at most 128 entries"
        ) from error


def check_limit(engine: str, name: str, allowed: str, value: object) -> None:
    """Refuse a value that an engine refuses.

    Args:
        engine: The engine.
        name: The parameter, as users write it.
        allowed: The values that it accepts, see ``accepts``; of lists the length, ``at most 128 entries``.
        value: The value.

    Raises:
        ElimError: The engine refuses the value.
    """
    if most := _MOST.match(allowed):
        if isinstance(value, tuple) and len(value) > (count := int(most["most"])):
            told = (
                f"{engine} takes at most {count:,} entries for {name}"
                if count
                else f"{engine} takes no {name}"
            )
            raise ElimError(f"{told}, got {len(value):,}", "leave some out, or write a chain of your own")
        return
    if isinstance(value, int | float) and not accepts(allowed, value):
        raise ElimError(
            f"{engine} accepts for {name} only {allowed}, got {value!r}",
            f"give {name} one of these values, or write a chain of your own, such as '{name}={value:g}':"
            " it has no engine's limits",
        )


def checked(limits: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Check the form of the limits of a chain file, and return them as pairs."""
    for allowed in limits.values():
        if not _MOST.match(allowed):
            accepts(allowed, 0.0)
    return tuple(limits.items())
