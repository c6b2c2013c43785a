"""Read columns of a run's tables as arrays over the records of a population, at their last positions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from elimtool.analysis.populations.records import Places, Population, Values
from elimtool.run.reader import Run


class RecordTables:
    """Tables of a run by record.

    Args:
        run: The pass to read.
        population: Its records.
    """

    def __init__(self, run: Run, population: Population) -> None:
        self.run = run
        self.population = population

    def has(self, table: str) -> bool:
        """Whether the run has a table with rows."""
        return table in self.run.tables and self.run.arrow(table).num_rows > 0

    def rows(self, table: str, columns: Sequence[str]) -> tuple[Places, dict[str, Any]]:
        """Read the rows of records at their last position.

        Args:
            table: Its name.
            columns: Names of columns.

        Returns:
            [rows] index of the record, and each column as an Arrow array of those rows.
        """
        whole = self.run.arrow(table).select(["prompt_id", "position", *columns])
        codes = whole.column("prompt_id").combine_chunks().dictionary_encode()
        known = self.population.place
        of_code = np.array([known.get(one, -1) for one in codes.dictionary.to_pylist()], dtype=np.intp)
        record = of_code[codes.indices.to_numpy()] if len(of_code) else np.empty(0, dtype=np.intp)
        position = whole.column("position").to_numpy()
        last = np.full(len(known), -1)
        mine = record >= 0
        np.maximum.at(last, record[mine], position[mine])
        kept = np.flatnonzero(mine & (position == last[np.maximum(record, 0)]))
        found = whole.take(pa.array(kept))
        return record[kept], {name: found.column(name).combine_chunks() for name in columns}

    @cached_property
    def names(self) -> tuple[list[list[str]], list[list[str]]]:
        """Targets and foils of each record, in order."""
        rows = [one.row for one in self.population.records]
        return [list(row["targets"] or ()) for row in rows], [list(row["foils"] or ()) for row in rows]

    def which(self, record: Places, names: Any, foils: bool = False) -> Places:
        """Find the place of targets or foils among those of their records.

        Args:
            record: [rows] indices of records.
            names: [rows] Arrow array of names.
            foils: Whether they are foils.

        Returns:
            [rows] places; -1 where the record has none of that name.
        """
        encoded = names.dictionary_encode()
        code = {name: place for place, name in enumerate(encoded.dictionary.to_pylist())}
        listed = self.names[1 if foils else 0]
        keys = [
            (index * len(code) + code[name], place)
            for index, own in enumerate(listed)
            for place, name in reversed(list(enumerate(own)))
            if name in code
        ]
        known = dict(keys)
        asked = record * len(code) + encoded.indices.to_numpy()
        return np.array([known.get(one, -1) for one in asked.tolist()], dtype=np.intp)


def numbers(values: Any) -> Values:
    """Convert an Arrow array to float64, NaN for null and 0 or 1 for truth values."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
