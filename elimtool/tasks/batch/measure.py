"""Measure a shard: its prompts in buckets through the engine, failures as rows, in input order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elimtool.engine.intervening import changed
from elimtool.engine.loop import TraceOptions, settings_for
from elimtool.engine.records import failed_row, prompt_row, unread_row
from elimtool.errors import ElimError
from elimtool.metrics.metric import Settings
from elimtool.model.view import Encoded
from elimtool.numerics import kernels
from elimtool.prompts.prompt import Prompt
from elimtool.prompts.record import Record
from elimtool.run.reader import Run
from elimtool.run.schema import ONE_PASS, TABLES
from elimtool.run.selection import ALWAYS, FITTED
from elimtool.tasks.batch.defects import Defects
from elimtool.tasks.batch.passes import FIRST_SIZE, Passes
from elimtool.tasks.batch.plan import Shard
from elimtool.tasks.trace import judge

if TYPE_CHECKING:
    from elimtool.lenses.lens import Lens
    from elimtool.model.model import Model
    from elimtool.run.manifest import Manifest


@dataclass
class Measured:
    """One shard's tables and what it took.

    Attributes:
        tables: Every kept table by name, rows in input order.
        prompts: Records of the shard.
        errors: Records that are error rows.
        tokens: Tokens of the prompts that were measured.
        slots: Token slots of their forward passes, padding included.
        defects: Errors that no prompt explains.
    """

    tables: dict[str, pa.Table]
    prompts: int
    errors: int
    tokens: int
    slots: int
    defects: Defects


@dataclass
class Measurer:
    """Measures shard after shard with one model.

    Attributes:
        model: The model.
        options: What to measure.
        lens: The lens that layers are read through.
        targets: What prompts follow that name nothing of their own.
        foils: Likewise.
        batch_size: Prompts in one forward pass at most; ``None`` until it is found.
        settings: What metrics are told.
    """

    model: Model
    options: TraceOptions
    lens: Lens
    targets: tuple[str, ...] = ()
    foils: tuple[str, ...] = ()
    batch_size: int | None = None
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.selection = self.options.selection()
        # however little a slice holds: the rows of a run are alike
        compiled = self.model.device.type == "cpu" and kernels.usable(self.model.vocab)
        self.settings = replace(settings_for(self.model, self.options, self.lens), compiled=compiled)
        for intervention in self.options.interventions:
            intervention.check(self.model)
        self.under = changed(self.model, self.options.interventions)
        self.kept = self.selection.kept - self._unfitted
        if self.batch_size is None and self.model.device.type != "cuda":
            self.batch_size = FIRST_SIZE

    def measure(self, shard: Shard, manifest: Manifest) -> Measured:
        """Measure one shard; whatever is wrong with a prompt becomes its row in ``prompts``.

        Raises:
            ElimError: Two prompts of the shard have one id once they are rendered.
        """
        defects = Defects()
        found = [self._encode(record, defects) for record in shard.records]
        _refuse_duplicates(shard, found)
        pass_ = Passes(self, [one for one in found if isinstance(one, Encoded)], defects)
        pass_.run()
        pairs = list(zip(shard.records, found, strict=True))
        tables = self._tables(pass_, [self._row(*one, {})["prompt_id"] for one in pairs], manifest)
        rows = [self._row(*one, pass_.failed) for one in pairs]
        tables["prompts"] = TABLES["prompts"].from_rows(rows)
        errors = sum(row["status"] == "error" for row in rows)
        return Measured(tables, len(rows), errors, pass_.tokens, pass_.slots, defects)

    def _encode(self, record: Record, defects: Defects) -> Encoded | Exception:
        if not isinstance(record.prompt, Prompt):
            return record.prompt
        try:
            one = self.model.encode(
                self._with_defaults(record.prompt),
                position=self.options.position,
                sinks=self.options.sinks,
                target_space=self.options.target_space,
            )
            for intervention in self.options.interventions:
                intervention.fits(one)
            return one
        except ElimError as error:
            return error
        except Exception as error:  # a tokenizer may fail in any way at one text: the others go on
            defects.add(error)
            return error

    def _with_defaults(self, prompt: Prompt) -> Prompt:
        if prompt.targets or prompt.foils:
            return prompt
        return replace(prompt, targets=self.targets, foils=self.foils)

    def _row(self, record: Record, one: Encoded | Exception, failed: dict[str, Exception]) -> dict[str, Any]:
        """The record's row in ``prompts``."""
        if not isinstance(record.prompt, Prompt):
            return unread_row(record.prompt_id or "", record.text, record.prompt)
        if isinstance(one, Encoded):
            row = prompt_row(record.prompt, one)
            return failed_row(row, failed[one.prompt_id]) if one.prompt_id in failed else row
        return failed_row(prompt_row(record.prompt, ElimError("")), one)

    @property
    def _unfitted(self) -> frozenset[str]:
        """Tables that no lens is there for."""
        return FITTED if self.settings.reference is None else frozenset()

    def _tables(self, pass_: Passes, ids: Sequence[str], manifest: Manifest) -> dict[str, pa.Table]:
        """All kept tables but ``prompts``, without the prompts that failed."""
        order = pa.array(ids, pa.string())
        names = self.selection.measured - self._unfitted - {ALWAYS}
        measured = {name: _in_order(name, pass_.parts.get(name, []), order) for name in names}
        run = Run.from_tables(manifest, measured)
        run = judge(self.model, run, self.options, pass_.usable, pass_.fail)
        failed = pa.array(list(pass_.failed), pa.string())
        return {
            name: table.filter(pc.invert(pc.is_in(table.column("prompt_id"), value_set=failed)))
            for name in self.kept - {ALWAYS}
            for table in (run.arrow(name),)
        }


def _in_order(name: str, parts: Sequence[pa.Table], order: pa.Array) -> pa.Table:
    """The parts as one table: the model's own pass first, prompts as in ``order``, rows as they were."""
    if not parts:
        return TABLES[name].schema.empty_table()
    table = pa.concat_tables(parts).combine_chunks()
    places = pc.index_in(table.column("prompt_id"), value_set=order).to_numpy()
    if name not in ONE_PASS:
        places = places + len(order) * pc.is_valid(table.column("intervention")).to_numpy()
    return table.take(pa.array(np.argsort(places, kind="stable")))


def _refuse_duplicates(shard: Shard, found: Sequence[Encoded | Exception]) -> None:
    """Two chats may be rendered alike; their rows could not be told apart."""
    seen: dict[str, int] = {}
    for record, one in zip(shard.records, found, strict=True):
        known = one.prompt_id if isinstance(one, Encoded) else record.prompt_id
        if known is not None and (first := seen.setdefault(known, record.line)) != record.line:
            raise ElimError(
                f"lines {first} and {record.line} have the same id '{known}' once they are rendered",
                "give each prompt an id of its own",
            )
