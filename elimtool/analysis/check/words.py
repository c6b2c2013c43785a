"""Write values for people."""

from __future__ import annotations

import json
from math import ceil, floor, log10
from typing import Any


def told(value: Any) -> str:
    """Write a value: six significant digits, the first tokens of a list."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        shown = " ".join(repr(str(one).partition(" ")[2] or one) for one in value[:5])
        return f"[{shown}{' ...' if len(value) > 5 else ''}]"
    return str(value) if isinstance(value, int) else f"'{value}'"


def word(value: Any) -> str:
    """Write a fact of an identity in at most 40 characters; of hashes the beginning."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 40 else text[:16] + "…"


def ceil_to_two_digits(value: float) -> str:
    """Round a positive number up to two significant digits."""
    step = 10.0 ** (floor(log10(value)) - 1)
    return f"{ceil(value / step) * step:.2g}"
