"""Cut a prompt file into shards as it is read, and find ids that occur twice in bounded memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from elimtool.errors import ElimError
from elimtool.prompts.record import Record

CHUNK = 1000
"""Records whose ids are looked up together."""

CACHE_KIB = 32 * 1024
"""Most memory that the table of ids takes; the rest is in a temporary file."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive records of a prompt file; ``index`` is also the number of the part they become."""

    index: int
    records: tuple[Record, ...]


class Input(Protocol):
    """What a run works through: a ``PromptFile``, or whatever else gives the same records every time."""

    @property
    def name(self) -> str:
        """Name in messages and in the plan."""

    @property
    def format(self) -> str:
        """Its format, as in the manifest."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What else a run of it says about it."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def sha256(self) -> str:
        """Return the SHA-256 (hexadecimal) of what the records are made of."""

    def records(self) -> Iterator[Record]:
        """Iterate over all records in order, valid or not."""


class Ids:
    """The ids seen so far, as 16-byte hashes in a temporary SQLite file: memory stays bounded."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")  # a private file in the temporary folder, gone when closed
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE ids (key BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID")

    def add(self, records: Sequence[Record]) -> list[int | None]:
        """Add records.

        Returns:
            For each, the line of the first record with the same id; ``None`` if it is the first.
        """
        rows = [(record.key, record.line) for record in records]
        before = self._db.total_changes
        self._db.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?)", rows)
        if self._db.total_changes - before == len(rows):  # all new, the usual case: no look-ups
            return [None] * len(rows)
        first = [
            self._db.execute("SELECT line FROM ids WHERE key = ?", row[:1]).fetchone()[0] for row in rows
        ]
        return [None if found == row[1] else found for found, row in zip(first, rows, strict=True)]

    def close(self) -> None:
        """Drop the temporary file."""
        self._db.close()


def shards(records: Iterable[Record], size: int, dedupe: bool = False) -> Iterator[Shard]:
    """Cut records into shards of ``size``, the last one shorter.

    With ``dedupe``, records whose id occurred before are left out after the cut, so shards do not shift.
    """
    rest, index = iter(records), 0
    ids = Ids() if dedupe else None
    try:
        while chunk := tuple(islice(rest, size)):
            kept = chunk
            if ids is not None:
                earlier = ids.add(chunk)
                kept = tuple(one for one, first in zip(chunk, earlier, strict=True) if first is None)
            yield Shard(index, kept)
            index += 1
    finally:
        if ids is not None:
            ids.close()


def count_distinct(records: Iterable[Record], name: str, dedupe: bool = False) -> int:
    """Count the records with different ids.

    Raises:
        ElimError: Two records have the same id, unless ``dedupe``; the message names both lines.
    """
    rest, count = iter(records), 0
    with closing(Ids()) as ids:
        while chunk := list(islice(rest, CHUNK)):
            earlier = ids.add(chunk)
            count += earlier.count(None)
            if not dedupe:
                _refuse(chunk, earlier, name)
    return count


def _refuse(chunk: Sequence[Record], earlier: Sequence[int | None], name: str) -> None:
    for record, first in zip(chunk, earlier, strict=True):
        if first is not None:
            shown = f" '{record.prompt_id}'" if record.prompt_id is not None else ""
            raise ElimError(
                f"{name}: lines {first} and {record.line} have the same id{shown}",
                "give each prompt an id of its own, or keep the first of each with `dedupe`",
            )
