"""A shard in, its tables out: prompts in buckets through the engine, failures as rows, in input order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from elimtool.analysis.verdict import verdicts
from elimtool.batch.buckets import buckets, slots_of
from elimtool.batch.defects import Defects, described, is_defect
from elimtool.batch.plan import Shard
from elimtool.engine import TraceOptions, chain_for, run_batch
from elimtool.errors import ElimError
from elimtool.lenses.ridge import RidgeLens
from elimtool.memory import out_of_memory
from elimtool.metrics.metric import Settings
from elimtool.model.view import Encoded
from elimtool.promptfile import Record
from elimtool.prompts import Prompt
from elimtool.records import arrow_table, failed_row, prompt_row, unread_row
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from elimtool.selection import FITTED, refuse_unfitted
from elimtool.walk import walk_tables

if TYPE_CHECKING:
    from elimtool.lenses.lens import Lens
    from elimtool.model.model import Model
    from elimtool.run.manifest import Manifest

FIRST_SIZE = 32
"""Prompts in one forward pass on a CPU; on a GPU twice, four times... as many are tried."""

LARGEST_SIZE = 512
"""More prompts in one forward pass gain nothing."""

Parts = dict[str, list[pa.Table]]


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
        chains = tuple(chain_for(self.model, spec) for spec in self.options.samplers)
        self.selection = self.options.selection()
        reference = self.lens.reference if isinstance(self.lens, RidgeLens) else None
        if reference is None:
            refuse_unfitted(self.options.tables, self.model.name)
        self.settings = Settings(chains, self.options.single_heads, self.selection.measured, reference)
        self.chains = chains
        self.kept = self.selection.kept - (FITTED if reference is None else frozenset())
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
        pass_ = _Pass(self, [one for one in found if isinstance(one, Encoded)], defects)
        pass_.run()
        rows = [
            self._row(record, one, pass_.failed) for record, one in zip(shard.records, found, strict=True)
        ]
        tables = self._tables(pass_, rows, manifest)
        errors = sum(row["status"] == "error" for row in rows)
        return Measured(tables, len(rows), errors, pass_.tokens, pass_.slots, defects)

    def _encode(self, record: Record, defects: Defects) -> Encoded | Exception:
        if not isinstance(record.prompt, Prompt):
            return record.prompt
        try:
            return self.model.encode(
                self._with_defaults(record.prompt),
                position=self.options.position,
                sinks=self.options.sinks,
                target_space=self.options.target_space,
            )
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

    def _tables(self, pass_: _Pass, rows: list[dict[str, Any]], manifest: Manifest) -> dict[str, pa.Table]:
        order = pa.array([row["prompt_id"] for row in rows], pa.string())
        names = self.selection.measured - (frozenset() if self.settings.reference else FITTED)
        tables = {name: _in_order(name, pass_.parts.get(name, []), order) for name in names}
        tables["prompts"] = TABLES["prompts"].from_rows(rows)
        if "verdicts" in self.kept:
            judged = verdicts(Run.from_tables(manifest, tables))
            tables["verdicts"] = TABLES["verdicts"].from_rows(judged)
        return {name: tables[name] for name in TABLES if name in self.kept}


class _Pass:
    """The forward passes of one shard: tables by part, and the prompts that failed with the reason."""

    def __init__(self, measurer: Measurer, encoded: Sequence[Encoded], defects: Defects) -> None:
        self.measurer = measurer
        self.encoded = encoded
        self.defects = defects
        self.parts: Parts = {}
        self.failed: dict[str, Exception] = {}
        self.tokens = 0
        self.slots = 0

    def run(self) -> None:
        """Run every bucket."""
        if not self.encoded:
            return
        lengths = [len(one.token_ids) for one in self.encoded]
        if self.measurer.batch_size is None:
            self.measurer.batch_size = self._find_size()
        for group in buckets(lengths, self.measurer.batch_size):
            self._attempt([self.encoded[index] for index in group])

    def _attempt(self, some: list[Encoded]) -> None:
        """Measure some prompts together; in halves where memory is short, singly where one of them fails."""
        try:
            tables = self._measure(some)
        except Exception as error:  # whatever it is, it costs its own prompt alone; defects are told apart
            if len(some) == 1:
                self._fail(some[0], error)
                return
            step = (len(some) + 1) // 2 if out_of_memory(error) else 1
            suspected = described(error) if is_defect(error) else None
        else:
            for name, table in tables.items():
                self.parts.setdefault(name, []).append(table)
            lengths = [len(one.token_ids) for one in some]
            self.tokens += sum(lengths)
            self.slots += slots_of(lengths)
            return
        _free_memory()
        failed = len(self.failed)
        for start in range(0, len(some), step):
            self._attempt(some[start : start + step])
        if suspected and len(self.failed) == failed:
            self.defects.add_described(*suspected)  # together they failed, one by one they did not

    def _fail(self, one: Encoded, error: Exception) -> None:
        if is_defect(error):
            self.defects.add(error)
        self.failed[one.prompt_id] = error.with_traceback(None)  # whose frames hold the tensors of the pass

    def _measure(self, some: list[Encoded]) -> dict[str, pa.Table]:
        measurer, options = self.measurer, self.measurer.options
        tables = dict(run_batch(measurer.model, some, measurer.settings, measurer.lens))
        if not options.generate:
            return tables
        chain = measurer.chains[options.samplers.index(options.chain) if options.chain else 0]
        for one in some:
            walked = walk_tables(measurer.model, one, chain, options.generate, options.seed)
            for name, columns in walked.items():
                if name in measurer.selection.measured:
                    added = arrow_table(name, columns)
                    tables[name] = pa.concat_tables([tables[name], added]) if name in tables else added
        return tables

    def _find_size(self) -> int:
        """Double the number of prompts in a forward pass, the longest of them, until memory is full.

        Half of the last number that fit is taken: prompts of later shards may be longer.
        """
        longest = sorted(self.encoded, key=lambda one: -len(one.token_ids))
        size = FIRST_SIZE
        while size < LARGEST_SIZE:
            some = [longest[index % len(longest)] for index in range(2 * size)]
            try:
                run_batch(self.measurer.model, some, self.measurer.settings, self.measurer.lens)
            except Exception as error:  # a trial must not end the run
                _free_memory()
                if out_of_memory(error):
                    return size // 2
                if is_defect(error):
                    self.defects.add(error)
                return size
            size *= 2
        return size


def _in_order(name: str, parts: Sequence[pa.Table], order: pa.Array) -> pa.Table:
    """The parts as one table, prompts as in ``order``, the rows of each as they were."""
    if not parts:
        return TABLES[name].schema.empty_table()
    table = pa.concat_tables(parts).combine_chunks()
    places = pc.index_in(table.column("prompt_id"), value_set=order).to_numpy()
    return table.take(pa.array(np.argsort(places, kind="stable")))


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
