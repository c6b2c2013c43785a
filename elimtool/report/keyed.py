"""Look the rows of tables up by a key, such as the prompt or the pair."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from math import isnan
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elimtool.files.rows import Rows


class TableSource(Protocol):
    """Where tables come from: a run or a comparison."""

    @property
    def tables(self) -> Collection[str]:
        """Names of the tables present."""

    def arrow(self, name: str) -> Any:
        """One table as a ``pyarrow.Table``."""


class Keyed:
    """Tables that are read once and looked up by a key; a missing table has no rows.

    Args:
        source: A run or a comparison.
        key: The column that joins its tables.
    """

    def __init__(self, source: TableSource, key: str) -> None:
        self._source = source
        self._key = key
        self._read: dict[str, Any] = {}
        self._stretches: dict[str, dict[str, list[tuple[int, int]]]] = {}

    def arrow(self, name: str) -> Any:
        """The table, or None."""
        if name not in self._read:
            table = self._source.arrow(name) if name in self._source.tables else None
            # one chunk, so that the slices of a key need no copies
            self._read[name] = None if table is None else table.combine_chunks()
        return self._read[name]

    def all(self, name: str) -> Rows:
        """All rows of a table."""
        table = self.arrow(name)
        rows: Rows = [] if table is None else table.to_pylist()
        return rows

    def rows(self, name: str, key: str, position: int | None = None) -> Rows:
        """Rows of one key, and one position if given; NaN reads as None."""
        part = self.part(name, key, position)
        if part is None:
            return []
        return [{key: known(value) for key, value in row.items()} for row in part.to_pylist()]

    def part(self, name: str, key: str, position: int | None = None) -> Any:
        """The same as an Arrow table; None where there is no table."""
        table = self.arrow(name)
        if table is None:
            return None
        slices = [table.slice(start, count) for start, count in self._places(name).get(key, ())]
        part = pa.concat_tables(slices) if slices else table.slice(0, 0)
        if position is None or "position" not in part.column_names:
            return part
        return part.filter(pc.equal(part.column("position"), position))

    def _places(self, name: str) -> dict[str, list[tuple[int, int]]]:
        """The (first row, count) of every unbroken stretch of rows with the same key."""
        if name not in self._stretches:
            ids = self.arrow(name).column(self._key).combine_chunks().dictionary_encode()
            codes = ids.indices.to_numpy(zero_copy_only=False)
            borders = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
            # one pass over the ids: filtering the table for each prompt would be quadratic in prompts
            stretches: dict[str, list[tuple[int, int]]] = {}
            for start, end in pairwise(borders):
                if end > start:
                    key = ids.dictionary[int(codes[start])].as_py()
                    stretches.setdefault(key, []).append((start, end - start))
            self._stretches[name] = stretches
        return self._stretches[name]


def known(value: Any) -> Any:
    """Give None for NaN, and every other value as it is."""
    return None if isinstance(value, float) and isnan(value) else value
