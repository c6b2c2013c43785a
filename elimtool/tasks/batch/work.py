"""Measure shards with one model, write their parts and mark them as done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from elimtool.engine.defects import Defects
from elimtool.engine.options import TraceOptions
from elimtool.engine.plugins import definitions
from elimtool.engine.session import Session
from elimtool.numerics import kernels
from elimtool.run.damage import digest
from elimtool.run.schema import TABLES
from elimtool.run.writer import write_part
from elimtool.tasks.batch.measure import MeasuredShard, Measurer, record_row
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.plan import Shard
from elimtool.tasks.batch.state import Done, State

if TYPE_CHECKING:
    from elimtool.metrics.metric import Metric
    from elimtool.model.model import Model
    from elimtool.run.manifest import Manifest

SIZE = "batch_size.json"


class Wanted(Protocol):
    """What a run measures: ``TraceOptions``, or the options of whatever else is worked through in shards."""

    @property
    def brought(self) -> Mapping[str, type[Metric]]:
        """Metrics of plugins, by the tables that they fill."""


class Works(Protocol):
    """Measures and writes shards with one model."""

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """Make the manifest of the run, the same on every worker."""

    def do(self, shard: Shard, directory: Path, run: Manifest) -> Done:
        """Measure a shard, write its parts and mark it; repeated, this writes the same bytes."""


Make = Callable[..., Works]
"""Makes a worker of a model, what is asked, the options of the run, and a function that takes lines."""


class Worker:
    """Measures and writes shards with one model.

    Args:
        model: The model.
        trace: What to measure.
        batch: Options of the run.
        say: Called with a line of text when something slow begins.
    """

    def __init__(
        self,
        model: Model,
        trace: TraceOptions,
        batch: BatchOptions,
        say: Callable[[str], None] | None = None,
    ) -> None:
        # whatever the size of a slice, so that all slices of a run give the same numbers
        # beside a GPU they serve the chains that run on the processor
        compiled = kernels.usable(model.vocab)
        self.session = Session(model, trace, compiled=compiled)
        self.batch = batch
        self.measurer = Measurer(self.session, batch.targets, batch.foils, batch.batch_size, batch.chat)
        if compiled:
            from elimtool.numerics.kernels.rows import prepare

            prepare(say)

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """Make the manifest of the run, the same on every worker.

        Args:
            prompts_sha256: SHA-256 of the prompt file's bytes.
            facts: Other keys of ``config``, such as the file's format.
            started: When the run began.
        """
        return self.session.manifest(
            started,
            tables=sorted(self.session.kept),
            heads=self.session.options.single_heads,
            batch_size=self.batch.batch_size,
            shard_size=self.batch.shard_size,
            targets=self.batch.targets,
            foils=self.batch.foils,
            chat=asdict(self.batch.chat),
            prompts_sha256=prompts_sha256,
            **facts,
        )

    def do(self, shard: Shard, directory: Path, run: Manifest) -> Done:
        """Measure a shard, write its parts and mark it; repeated, this writes the same bytes.

        Raises:
            ElimError: The disk is full or refuses.
        """
        started = time.perf_counter()
        state = State(directory)
        if self.measurer.batch_size is None:
            self.measurer.batch_size = state.kept(SIZE)
        known = self.measurer.batch_size
        found = self.measurer.measure(shard, run)
        if known is None and self.measurer.batch_size is not None:
            state.keep(SIZE, self.measurer.batch_size)
        return store(shard, directory, run, found, started)


def give_up(shard: Shard, directory: Path, run: Manifest, error: Exception, asked: Wanted) -> Done:
    """Write a shard that no worker could measure: every prompt is an error row.

    Args:
        shard: The shard.
        directory: The run directory.
        run: Manifest of the run.
        error: The reason.
        asked: What was to be measured.
    """
    started = time.perf_counter()
    config: Any = run.config
    rows = [record_row(record, error) for record in shard.records]
    defined = {**TABLES, **definitions(asked.brought)}
    tables = {name: table.schema.empty_table() for name, table in defined.items() if name in config["tables"]}
    tables["prompts"] = TABLES["prompts"].from_rows(rows)
    found = MeasuredShard(tables, len(rows), len(rows), 0, 0, Defects())
    return store(shard, directory, run, found, started)


def store(shard: Shard, directory: Path, run: Manifest, found: MeasuredShard, started: float) -> Done:
    """Write the parts of a shard, then its marker: a marker says that the parts are on disk.

    Args:
        shard: The shard.
        directory: The run directory.
        run: Manifest of the run.
        found: What was measured of it.
        started: When, by ``time.perf_counter``.

    Raises:
        ElimError: The disk is full or refuses.
    """
    parts = {
        name: write_part(directory, run, name, shard.index, table) for name, table in found.tables.items()
    }
    done = Done(
        shard=shard.index,
        prompts=found.prompts,
        errors=found.errors,
        tokens=found.tokens,
        slots=found.slots,
        seconds=round(time.perf_counter() - started, 3),
        rows={name: table.num_rows for name, table in found.tables.items()},
        size={name: path.stat().st_size for name, path in parts.items()},
        digest={name: digest(path) for name, path in parts.items()},
        defects=found.defects.counts,
        tracebacks=found.defects.tracebacks,
    )
    State(directory).mark(done)
    return done
