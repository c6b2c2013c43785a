"""Open of a large run only the parts that hold one prompt: looking at it does not read all the others."""

from __future__ import annotations

import pyarrow.parquet as pq

from elimtool.run import layout
from elimtool.run.reader import Run

IDS = "prompt_id"


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
