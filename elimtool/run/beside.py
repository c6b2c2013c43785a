"""Open of a large run or comparison only what holds one prompt or pair: looking at it reads no others."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from elimtool.run import layout
from elimtool.run.comparison import FORM, Comparison, ReadTables, completed
from elimtool.run.parts import read_groups, schema_of, values_of
from elimtool.run.reader import Run

IDS = "prompt_id"
PAIR_IDS = "pair_id"


class PromptParts:
    """Which part of each table of a run holds which prompt; found once, from the ids alone.

    Args:
        run: A run of a directory, or in memory.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._files = {} if run.path is None else layout.look(run.path).tables
        self._part = {
            one: path.name
            for path in self._files.get("prompts", ())
            for one in pq.read_table(path, columns=[IDS]).column(IDS).to_pylist()
        }

    def of(self, prompt_id: str) -> Run:
        """Return the run with the parts alone that hold a prompt: a shard fills one part of each table."""
        name = self._part.get(prompt_id)
        if name is None:
            return self.run
        own = {table: [path for path in parts if path.name == name] for table, parts in self._files.items()}
        uncounted = self.run.manifest.model_copy(update={"counts": {}})  # they are of all parts
        return Run(uncounted, self.run.path, {table: parts for table, parts in own.items() if parts})


class PairGroups:
    """Which row groups of a comparison's tables hold which pair: a comparison has one part of each table.

    Args:
        comparison: One of a directory, or in memory.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self._found: dict[str, dict[str, list[tuple[Path, int]]]] = {}

    def of(self, pair_id: str) -> Comparison:
        """Return the comparison with the rows alone of a pair; each table is read when it is used.

        Tables that are not by pair are those of the comparison.
        """
        path = self.comparison.path
        if path is None:
            return self.comparison
        reads = {name: partial(self._rows, path, name, pair_id) for name in self.comparison.tables}
        return replace(self.comparison, tables=ReadTables(reads))

    def _rows(self, path: Path, name: str, pair_id: str) -> Any:
        if name not in self._found:
            self._found[name] = self._places(path, name)
        known = self._found[name]
        if not known:  # of another key, or without rows
            return self.comparison.arrow(name)
        places = known.get(pair_id, [])
        parts = list(dict.fromkeys(part for part, _ in places))
        read = [read_groups(part, [group for own, group in places if own == part]) for part in parts]
        table = pa.concat_tables(read) if read else schema_of(next(iter(known.values()))[0][0]).empty_table()
        return completed(name, table.filter(pc.equal(table.column(PAIR_IDS), pair_id)), path)

    def _places(self, path: Path, name: str) -> dict[str, list[tuple[Path, int]]]:
        """Find the row groups of each pair, from the ids alone."""
        found: dict[str, list[tuple[Path, int]]] = {}
        for part in layout.look(path, FORM).tables[name]:
            if PAIR_IDS in schema_of(part).names:
                for group, ids in enumerate(values_of(part, PAIR_IDS)):
                    for one in ids:
                        found.setdefault(one, []).append((part, group))
        return found
