"""Measure shards of a map: run units past its parts, write their sums, and mark the shard as done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.engine.defects import Defects, is_defect
from elimtool.engine.loop import attempt
from elimtool.engine.records import failed_row, manifest, prompt_row
from elimtool.files.rows import Row, Rows
from elimtool.model.lock import exclusive
from elimtool.model.memory import collecting_later
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.record import Record
from elimtool.run.schema import TABLES
from elimtool.tasks.batch.measure import MeasuredShard
from elimtool.tasks.batch.work import store
from elimtool.tasks.map.part import Watch
from elimtool.tasks.map.parts import PARTS
from elimtool.tasks.map.readable import formed
from elimtool.tasks.map.units import Unit, Units

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.run.manifest import Manifest
    from elimtool.tasks.batch.options import BatchOptions
    from elimtool.tasks.batch.plan import Shard
    from elimtool.tasks.batch.state import Done
    from elimtool.tasks.map.options import MapOptions

AT_ONCE = 8
"""Units in one pass."""


class MapWorker:
    """Measures and writes shards of a map with one model.

    Args:
        model: The model.
        asked: What is mapped.
        batch: Options of the run.
        say: Called with a line of text when something slow begins.
    """

    def __init__(
        self,
        model: Model,
        asked: MapOptions,
        batch: BatchOptions,
        say: Callable[[str], None] | None = None,
    ) -> None:
        del say
        self.model, self.asked = model, asked
        self.at_once = batch.batch_size or AT_ONCE
        self.shard_size = batch.shard_size
        self.units = Units(model, asked.tokens)
        self.parts = {name: PARTS[name](model, asked) for name in asked.only}

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """Make the manifest of the run, the same on every worker; ``config`` says that it is a map."""
        config = {
            "map": list(self.asked.only),
            "n_groups": self.model.n_groups,
            "categories": list(self.asked.categories),
            "sinks": "auto",
            "position": "all",
            "lens": None,
            "exit_lens": None if getattr(self.parts.get("layers"), "lens", None) is None else "ridge",
            "tables": ["map_sums", "prompts"],
            "batch_size": self.at_once,
            "shard_size": self.shard_size,
            "prompts_sha256": prompts_sha256,
            **facts,
        }
        return manifest(self.model, config, (), started)

    def do(self, shard: Shard, directory: Path, run: Manifest) -> Done:
        """Measure a shard, write its parts and mark it; repeated, this writes the same bytes.

        Raises:
            ElimError: The disk is full or refuses.
        """
        started = time.perf_counter()
        return store(shard, directory, run, self.measure(shard.records), started)

    @exclusive
    def measure(self, records: Sequence[Record]) -> MeasuredShard:
        """Measure some units; one that cannot be measured becomes an error row, and is in no sum."""
        defects = Defects()
        rows: Rows = []
        sums: Rows = []
        units = [self.units.of(one) for one in records]
        failed: dict[str, Exception] = {}

        def fail(unit: Unit, error: Exception) -> None:
            if is_defect(error):
                defects.add(error)
            failed[unit.id] = error.with_traceback(None)  # whose frames hold the tensors of the pass

        for some in _passes(units, self.at_once):
            attempt(some, lambda part: sums.extend(self._pass(part)), fail, defects)
        for unit in units:
            row = prompt_row(unit.encoded.prompt, unit.encoded)
            rows.append(failed_row(row, failed[unit.id]) if unit.id in failed else row)
        tokens = sum(len(one.encoded.token_ids) for one in units if one.id not in failed)
        tables = {
            "prompts": TABLES["prompts"].from_rows(rows),
            "map_sums": TABLES["map_sums"].from_rows(sums),
        }
        return MeasuredShard(tables, len(rows), len(failed), tokens, tokens, defects)

    @collecting_later()
    def _pass(self, units: Sequence[Unit]) -> Rows:
        kind = units[0].kind
        batch = Batch.of([one.encoded for one in units], self.model.device)
        watches = {name: part.watch(units, batch) for name, part in self.parts.items() if kind in part.needs}
        shown = [self.parts[name].needs[kind] for name in watches]
        needs: frozenset[str] = frozenset().union(*(one for one in shown if one is not None))

        def observe(view: LayerView) -> None:
            rows = formed(view) if "attention" in needs else None
            for watch in watches.values():
                watch.observe(view, rows)

        if any(one is not None for one in shown):
            self.model.stream(batch, needs, observe)
        return [row for name, watch in watches.items() for row in _rows(name, watch, units)]


def _passes(units: Sequence[Unit], most: int) -> Iterator[Sequence[Unit]]:
    """Group units that stand next to each other, are of one kind and are equally long."""
    for _, alike in groupby(units, lambda one: (one.kind, len(one.encoded.token_ids))):
        some = list(alike)
        for start in range(0, len(some), most):
            yield some[start : start + most]


def _rows(part: str, watch: Watch, units: Sequence[Unit]) -> Iterator[Row]:
    """Make the rows of ``map_sums`` of one part and pass."""
    for name, values in watch.sums().items():
        for unit, one in zip(units, values, strict=True):
            yield _row(part, name, unit.id, one)
    for name, value in watch.totals().items():
        yield _row(part, name, None, value)


def _row(part: str, name: str, unit: str | None, values: Any) -> Row:
    return {
        "part": part,
        "array": name,
        "unit": unit,
        "shape": list(values.shape),
        "values": values.reshape(-1).astype(float),
    }
