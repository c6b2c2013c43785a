"""Replace what a directory holds: the old is moved aside whole, and deleted once the new is complete."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elimtool.files.parse import parse_json
from elimtool.files.writing import sync_directory, write_text

NEW = ".elimtool-new-"
"""Prefix of the folder in which what will replace something is written."""
OLD = ".elimtool-old-"
"""Prefix of the folder that holds what was replaced until the new is complete."""
MOVES = "moves.json"
"""File in a folder of the old: the moves that are under way. It goes when they are done."""


def stage(directory: Path) -> Path:
    """Make the folder in which to write what will replace something in ``directory``.

    Raises:
        OSError: The folder cannot be made.
    """
    return Path(tempfile.mkdtemp(prefix=NEW, dir=directory))


def swap(directory: Path, staging: Path, old: Sequence[str], fresh: Sequence[str]) -> Path:
    """Move the old entries of a directory aside, and the staged ones into their place.

    Any error puts the old back; after a kill in between, ``put_back`` does.

    Args:
        directory: Where the old is and the new shall be.
        staging: The folder of ``stage``; it is removed.
        old: Names to move aside, in order.
        fresh: Names to move in, in order: what makes the new complete comes last.

    Returns:
        The folder that holds the old, for ``drop``.

    Raises:
        OSError: An entry cannot be moved.
    """
    aside = Path(tempfile.mkdtemp(prefix=OLD, dir=directory))
    moves: dict[str, Any] = {"staging": staging.name, "old": list(old), "fresh": list(fresh)}
    try:
        write_text(aside / MOVES, json.dumps(moves))
        for name in old:
            (directory / name).rename(aside / name)
        for name in fresh:
            (staging / name).rename(directory / name)
    except BaseException:  # Ctrl-C too must not lose the old
        _undo(directory, aside, moves)
        raise
    sync_directory(directory)
    (aside / MOVES).unlink()
    shutil.rmtree(staging, ignore_errors=True)
    return aside


def put_back(directory: Path) -> None:
    """Undo a replacement that was killed in the middle of its moves; end one whose moves were done.

    Raises:
        OSError: An entry cannot be moved.
    """
    for aside in earlier(directory):
        if (aside / MOVES).is_file():
            moves = parse_json((aside / MOVES).read_text(encoding="utf-8"))
            staging = directory / moves["staging"]
            if any((staging / name).exists() for name in moves["fresh"]):
                _undo(directory, aside, moves)
                shutil.rmtree(staging, ignore_errors=True)
            else:
                (aside / MOVES).unlink()


def earlier(directory: Path) -> list[Path]:
    """List the folders that hold what was replaced, by name."""
    return sorted(path for path in directory.iterdir() if path.name.startswith(OLD) and path.is_dir())


def drop(directory: Path) -> None:
    """Delete what was replaced, now that the new is complete; what cannot be deleted stays."""
    for aside in earlier(directory):
        if not (aside / MOVES).is_file():
            shutil.rmtree(aside, ignore_errors=True)


def _undo(directory: Path, aside: Path, moves: dict[str, Any]) -> None:
    staging = directory / moves["staging"]
    for name in reversed(moves["fresh"]):
        if not (staging / name).exists() and (directory / name).exists():
            (directory / name).rename(staging / name)
    for name in reversed(moves["old"]):
        if (aside / name).exists():
            (aside / name).rename(directory / name)
    (aside / MOVES).unlink(missing_ok=True)
    aside.rmdir()
