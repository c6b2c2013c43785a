"""Find parts of a batch that are not as its markers say: cut, changed or missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.run import layout

MARKERS = "shard-*.json"
"""Names of the markers of finished shards, in a batch's folder of state."""


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def faults(directory: Path, marker: Mapping[str, Any]) -> list[str]:
    """Compare the parts of a shard with its marker.

    Args:
        directory: The run directory.
        marker: ``shard``, ``rows`` by table, ``size`` in bytes by table, and, since elimtool 0.1, ``digest``
            by table. What it lacks is not compared.

    Returns:
        What is wrong, a line for each part: ``lens/part-00003.parquet is missing``.
    """
    found = []
    for name in marker["rows"]:
        path = directory / name / layout.part_name(marker["shard"])
        shown = f"{name}/{path.name}"
        size, expected = marker.get("size", {}).get(name), marker.get("digest", {}).get(name)
        try:
            if not path.is_file():
                found.append(f"{shown} is missing")
            elif size is not None and path.stat().st_size != size:
                found.append(f"{shown} has {path.stat().st_size:,} bytes, not {size:,}")
            elif expected is not None and digest(path) != expected:
                found.append(f"{shown} was changed")
        except OSError as error:
            found.append(f"{shown} cannot be read: {error.strerror or error}")
    return found


def damage(directory: Path) -> dict[int, list[str]]:
    """Find the damaged shards of a batch; none for a run without markers.

    Returns:
        What is wrong, as ``faults``, by shard.
    """
    found: dict[int, list[str]] = {}
    for path in sorted((directory / layout.STATE).glob(MARKERS)):
        try:
            wrong = faults(directory, parse_json(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            wrong = [f"its marker {path.name} is damaged"]
        if wrong:
            found[int(path.stem.removeprefix("shard-"))] = wrong
    return found


def in_words(damaged: Mapping[int, Iterable[str]]) -> list[str]:
    """Write a line for each damaged shard."""
    return [f"shard {shard} is damaged: {'; '.join(wrong)}" for shard, wrong in damaged.items()]


def refuse_damaged(directory: Path) -> None:
    """Refuse a run of which parts are damaged.

    Raises:
        ElimError: Says which shards, and what does them anew.
    """
    if lines := in_words(damage(directory)):
        more = f" (and {len(lines) - 1:,} more)" if len(lines) > 1 else ""
        raise ElimError(
            f"{directory}: {lines[0]}{more}",
            "the batch command that wrote it measures damaged shards anew;"
            f" elimtool run status {directory} names them all",
        )
