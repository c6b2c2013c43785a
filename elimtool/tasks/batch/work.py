"""One worker of a batch: a model that measures shards, writes their parts and marks them as done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.engine.options import TraceOptions
from elimtool.engine.records import failed_row, prompt_row, unread_row
from elimtool.engine.session import Session
from elimtool.numerics import kernels
from elimtool.run.schema import TABLES
from elimtool.run.writer import write_part
from elimtool.tasks.batch.measure import Measurer
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.plan import Shard
from elimtool.tasks.batch.state import Done, State

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.run.manifest import Manifest

SIZE = "batch_size.json"


class Worker:
    """Does one shard after another with one model.

    Args:
        model: The model.
        trace: What to measure.
        batch: How.
    """

    def __init__(self, model: Model, trace: TraceOptions, batch: BatchOptions) -> None:
        # however little a slice holds: the rows of a run are alike
        compiled = model.device.type == "cpu" and kernels.usable(model.vocab)
        self.session = Session(model, trace, compiled=compiled)
        self.batch = batch
        self.measurer = Measurer(self.session, batch.targets, batch.foils, batch.batch_size)
        if compiled:
            from elimtool.numerics.kernels.rows import prepare

            prepare()

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """What ``run.json`` will say of the run: the same on every worker.

        Args:
            prompts_sha256: Of the prompt file's bytes.
            facts: Its format.
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
            prompts_sha256=prompts_sha256,
            **facts,
        )

    def do(self, shard: Shard, directory: Path, run: Manifest) -> Done:
        """Measure a shard, write its parts and mark it; done again, it writes the same bytes.

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
        size = {
            name: write_part(directory, run, name, shard.index, table).stat().st_size
            for name, table in found.tables.items()
        }
        done = Done(
            shard=shard.index,
            prompts=found.prompts,
            errors=found.errors,
            tokens=found.tokens,
            slots=found.slots,
            seconds=round(time.perf_counter() - started, 3),
            rows={name: table.num_rows for name, table in found.tables.items()},
            size=size,
            defects=found.defects.counts,
            tracebacks=found.defects.tracebacks,
        )
        state.mark(done)
        return done


def give_up(shard: Shard, directory: Path, run: Manifest, kept: frozenset[str], error: Exception) -> Done:
    """Write a shard that no worker could do: every prompt is an error row.

    Args:
        shard: The shard.
        directory: The run directory.
        run: What is run.
        kept: Tables of the run.
        error: Why.
    """
    from elimtool.errors import ElimError
    from elimtool.prompts.prompt import Prompt

    rows = []
    for record in shard.records:
        if isinstance(record.prompt, Prompt):
            rows.append(failed_row(prompt_row(record.prompt, ElimError("")), error))
        else:
            rows.append(unread_row(record.prompt_id or "", record.text, record.prompt))
    tables = {name: TABLES[name].schema.empty_table() for name in TABLES if name in kept}
    tables["prompts"] = TABLES["prompts"].from_rows(rows)
    size = {
        name: write_part(directory, run, name, shard.index, table).stat().st_size
        for name, table in tables.items()
    }
    counted = {name: table.num_rows for name, table in tables.items()}
    done = Done(shard.index, len(rows), len(rows), 0, 0, 0.0, counted, size)
    State(directory).mark(done)
    return done
