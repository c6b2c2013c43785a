"""Read the inline form of a chain: ``name=value,...``."""

from __future__ import annotations

import re
from typing import Any

import yaml

from elimtool.errors import ElimError
from elimtool.samplers.stages import STAGES


def assignments(text: str, whole: str) -> dict[str, Any]:
    """Read ``name=value,...``; commas inside brackets and quotes belong to the value."""
    found: dict[str, Any] = {}
    for part in map(str.strip, split(text)):
        if part in STAGES and not STAGES[part].main and part not in found:
            found[part] = None
            continue
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not name or not value:
            raise ElimError(f"'{part}' in '{whole}' is not of the form name=value")
        if name in found:
            raise ElimError(f"'{name}' is given twice in '{whole}'")
        found[name] = value_of(value, part)
    return found


_PIECES = re.compile(r"""(?<=[=\[{(,:])\s*(?:"(?:\\.|[^"\\])*"|'(?:''|[^'])*')|.""", re.DOTALL)
"""Quoted texts where a value begins (within a word a quote is an apostrophe), else single letters."""


def split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    parts, depth = [""], 0
    for piece in _PIECES.findall(text):
        depth += (piece in ("[", "{", "(")) - (piece in ("]", "}", ")"))
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def value_of(text: str, part: str) -> Any:
    """Read a value as YAML, but ``1e-4`` as a number: YAML 1.1 wants a dot in it."""
    try:
        return float(text) if "e" in text.lower() and text[:1] in "+-.0123456789" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ElimError(f"the value in '{part}' cannot be read") from error
