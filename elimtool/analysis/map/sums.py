"""Read what the passages and probes of a map add up to."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.errors import ElimError
from elimtool.files.rows import Rows
from elimtool.run.reader import Run

Array = npt.NDArray[np.float64]
TEXT, REPEATS, CONTROL = "text", "repeats", "control"
MEMBER, NEEDLE, OTHER_NEEDLE = "member", "needle", "other-needle"
TEXTS, PAIR, WHOLE = "texts", "pair", "whole"
"""Kinds of units, as ``prompts.group`` has them."""


class Sums:
    """Sums of a map's run, by part and name.

    Args:
        run: The run of a map.

    Attributes:
        n_layers: Blocks of the model.
        n_heads: Query heads of a block.
        n_groups: Groups of heads that share keys and values.

    Raises:
        ElimError: The run is not one of a map.
    """

    def __init__(self, run: Run) -> None:
        if not run.is_map:
            raise ElimError(
                f"{run.path or 'the run'} is not a map", "make one with: elimtool map MODEL -o DIR"
            )
        self.run = run
        self._config: Any = run.manifest.config
        self.parts = tuple(map(str, self._said("map")))
        self.n_layers, self.n_heads = int(run.n_layers or 0), int(run.n_heads or 0)
        self.n_groups = int(self._said("n_groups"))

    def _said(self, key: str) -> Any:
        return self._config[key]

    @property
    def asked(self) -> dict[str, Any]:
        """What was mapped: parts, corpus, passages, tokens and labels."""
        keys = ("map", "corpus", "corpus_sha256", "passages", "tokens", "labels", "labels_sha256")
        return {key: self._said(key) for key in keys}

    @property
    def categories(self) -> tuple[str, ...]:
        """What tokens are labelled with."""
        return tuple(map(str, self._said("categories")))

    def group_of(self, head: int) -> int:
        """Return the group of a head, whose keys and values it shares."""
        return head * self.n_groups // self.n_heads

    @cached_property
    def units(self) -> Rows:
        """Rows of ``prompts`` of all units that were measured, in order."""
        return [row for row in self.run.arrow("prompts").to_pylist() if row["status"] == "ok"]

    def of(self, kind: str) -> Rows:
        """Return the units of one kind."""
        return [row for row in self.units if row["group"] == kind]

    @cached_property
    def _rows(self) -> dict[tuple[str, str], dict[str | None, list[Array]]]:
        found: dict[tuple[str, str], dict[str | None, list[Array]]] = {}
        table = self.run.arrow("map_sums")
        for batch in table.to_batches():
            columns = {name: batch.column(name) for name in batch.schema.names}
            names = (columns[name].to_pylist() for name in ("part", "array", "unit", "shape"))
            for index, (part, name, unit, shape) in enumerate(zip(*names, strict=True)):
                values = columns["values"][index].values.to_numpy(zero_copy_only=False).reshape(shape)
                found.setdefault((part, name), {}).setdefault(unit, []).append(values)
        return found

    def has(self, part: str, name: str) -> bool:
        """Tell whether the map has an array: one of an earlier version may lack it."""
        return (part, name) in self._rows

    def each(self, part: str, name: str, kind: str) -> Array:
        """Return an array of the units of one kind, [units, ...], in the order of ``of``.

        Raises:
            KeyError: No unit has it.
        """
        known = self._rows[part, name]
        return np.stack([known[row["prompt_id"]][0] for row in self.of(kind)])

    def one(self, part: str, name: str, unit: str) -> Array:
        """Return an array of one unit, named as in ``of``.

        Raises:
            KeyError: It does not have it.
        """
        return self._rows[part, name][unit][0]

    def total(self, part: str, name: str) -> Array:
        """Return an array that was summed over units: those of all shards, added in their order.

        Raises:
            KeyError: There is none.
        """
        first, *others = self._rows[part, name][None]
        found = first.copy()
        for one in others:
            found += one
        return found
