"""Parse JSON of files that anybody may have changed: whatever is wrong with it is one kind of error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def parse_json(text: str | bytes, constant: Callable[[str], Any] | None = None) -> Any:
    """Parse JSON.

    Args:
        text: The text, or UTF-8 bytes.
        constant: Called for NaN and infinities, which are not JSON; without, they are taken as numbers.

    Raises:
        ValueError: Not JSON, not UTF-8, or nested too deeply for Python.
    """
    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
