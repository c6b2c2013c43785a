"""Measure the prompts of a shard, pass by pass, so that what fails costs its own prompt alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from elimtool.engine.follow import Leaders
from elimtool.engine.loop import run_batch, written_through
from elimtool.engine.records import arrow_table
from elimtool.engine.walk import walk_tables
from elimtool.model.memory import out_of_memory
from elimtool.model.view import Encoded
from elimtool.tasks.batch.buckets import buckets, slots_of
from elimtool.tasks.batch.defects import Defects, described, is_defect

if TYPE_CHECKING:
    from elimtool.tasks.batch.measure import Measurer

FIRST_SIZE = 32
"""Prompts in one forward pass on a CPU; on a GPU twice, four times... as many are tried."""

LARGEST_SIZE = 512
"""More prompts in one forward pass gain nothing."""


class Passes:
    """The forward passes of one shard.

    Args:
        measurer: What is measured with.
        encoded: The prompts of the shard that could be encoded.
        defects: Takes what no prompt explains.

    Attributes:
        parts: Tables of each pass by name.
        failed: Why, of the prompts that could not be measured, by id.
        tokens: Tokens of the prompts that were measured.
        slots: Token slots of their passes, padding included.
    """

    def __init__(self, measurer: Measurer, encoded: Sequence[Encoded], defects: Defects) -> None:
        self.measurer = measurer
        self.encoded = encoded
        self.defects = defects
        self.parts: dict[str, list[pa.Table]] = {}
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
                self.fail(some[0], error)
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

    @property
    def usable(self) -> list[Encoded]:
        """The prompts that have not failed so far."""
        return [one for one in self.encoded if one.prompt_id not in self.failed]

    def fail(self, one: Encoded, error: Exception) -> None:
        """Note why a prompt could not be measured."""
        if is_defect(error):
            self.defects.add(error)
        self.failed[one.prompt_id] = error.with_traceback(None)  # whose frames hold the tensors of the pass

    def _measure(self, some: list[Encoded]) -> dict[str, pa.Table]:
        measurer, options = self.measurer, self.measurer.options
        leaders = Leaders()
        tables = dict(run_batch(measurer.model, some, measurer.settings, measurer.lens, leaders))
        if measurer.under is not None:
            _append(tables, run_batch(measurer.under, some, measurer.settings, measurer.lens, leaders))
        if not options.generate:
            return tables
        chain = written_through(measurer.settings, options)
        for one in some:
            walked = walk_tables(measurer.model, one, chain, options.generate, options.seed)
            wanted = {name: walked[name] for name in walked if name in measurer.selection.measured}
            _append(tables, {name: arrow_table(name, columns) for name, columns in wanted.items()})
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


def _append(tables: dict[str, pa.Table], more: Mapping[str, pa.Table]) -> None:
    """Put more rows behind those of the same tables."""
    for name, table in more.items():
        tables[name] = pa.concat_tables([tables[name], table]) if name in tables else table


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
