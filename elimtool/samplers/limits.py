"""Refuse parameter values that an engine refuses: each preset lists the values that its engine accepts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf

from elimtool.errors import ElimError

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
            f"limits: '{text}' is not a number", "write them as [0, 2] or -1 or [1, inf)"
        ) from error


def check_limit(engine: str, name: str, allowed: str, value: object) -> None:
    """Refuse a value that an engine refuses.

    Args:
        engine: The engine.
        name: The parameter, as users write it.
        allowed: The values that it accepts, see ``accepts``.
        value: The value.

    Raises:
        ElimError: The engine refuses the value.
    """
    if isinstance(value, int | float) and not accepts(allowed, value):
        raise ElimError(
            f"{engine} accepts for {name} only {allowed}, got {value!r}",
            f"give {name} one of these values, or write a chain of your own, such as '{name}={value:g}':"
            " it has no engine's limits",
        )


def checked(limits: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Check the form of the limits of a chain file, and return them as pairs."""
    for allowed in limits.values():
        accepts(allowed, 0.0)
    return tuple(limits.items())
