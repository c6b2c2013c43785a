"""Measures one shard: its prompts through the measuring loop, failures as rows, all in input order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from elimtool.engine.defects import Defects, is_defect
from elimtool.engine.forward import run_batch
from elimtool.engine.intake import refuse_duplicates, with_defaults
from elimtool.engine.loop import Passes, free_memory
from elimtool.engine.records import failed_row, prompt_row, unread_row
from elimtool.engine.session import Session
from elimtool.errors import ElimError
from elimtool.model.memory import out_of_memory
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt
from elimtool.prompts.record import Record
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from elimtool.run.selection import ALWAYS
from elimtool.tasks.batch.plan import Shard
from elimtool.tasks.trace import judge

if TYPE_CHECKING:
    from elimtool.run.manifest import Manifest

FIRST_SIZE = 32
"""Prompts in one forward pass on a CPU; on a GPU twice, four times... as many are tried."""

LARGEST_SIZE = 512
"""More prompts in one forward pass gain nothing."""


@dataclass
class MeasuredShard:
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


class Measurer:
    """Measures shard after shard with one model.

    Args:
        session: What to measure, and with which model.
        targets: What prompts follow that name nothing of their own.
        foils: Likewise.
        batch_size: Prompts in one forward pass at most; ``None`` on a GPU finds out how many fit.
    """

    def __init__(
        self,
        session: Session,
        targets: tuple[str, ...] = (),
        foils: tuple[str, ...] = (),
        batch_size: int | None = None,
    ) -> None:
        self.session = session
        self.targets = targets
        self.foils = foils
        cpu = session.model.device.type != "cuda"
        self.batch_size = FIRST_SIZE if batch_size is None and cpu else batch_size

    def measure(self, shard: Shard, manifest: Manifest) -> MeasuredShard:
        """Measure one shard; whatever is wrong with a prompt becomes its row in ``prompts``.

        Raises:
            ElimError: Two prompts of the shard have one id once they are rendered.
        """
        defects = Defects()
        found = [self._encode(record, defects) for record in shard.records]
        ids = [
            one.prompt_id if isinstance(one, Encoded) else record.prompt_id
            for record, one in zip(shard.records, found, strict=True)
        ]
        refuse_duplicates(ids, [record.line for record in shard.records], "lines")
        passes = Passes(self.session, defects)
        usable = [one for one in found if isinstance(one, Encoded)]
        if usable:
            if self.batch_size is None:
                self.batch_size = find_size(self.session, usable, defects)
            passes.run(usable, self.batch_size, little=0)  # a shard has enough prompts of like length
        pairs = list(zip(shard.records, found, strict=True))
        tables = self._tables(passes, usable, [_row(*one, {})["prompt_id"] for one in pairs], manifest)
        rows = [_row(*one, passes.failed) for one in pairs]
        tables["prompts"] = TABLES["prompts"].from_rows(rows)
        errors = sum(row["status"] == "error" for row in rows)
        return MeasuredShard(tables, len(rows), errors, passes.tokens, passes.slots, defects)

    def _encode(self, record: Record, defects: Defects) -> Encoded | Exception:
        if not isinstance(record.prompt, Prompt):
            return record.prompt
        try:
            return self.session.encode(with_defaults(record.prompt, self.targets, self.foils))
        except ElimError as error:
            return error
        except Exception as error:  # a tokenizer may fail in any way at one text: the others go on
            defects.add(error)
            return error

    def _tables(
        self, passes: Passes, usable: Sequence[Encoded], ids: Sequence[str], manifest: Manifest
    ) -> dict[str, pa.Table]:
        """All kept tables but ``prompts``, without the prompts that failed."""
        run = Run.from_tables(manifest, passes.tables(ids, self.session.measured))
        left = [one for one in usable if one.prompt_id not in passes.failed]
        run = judge(self.session, run, left, passes.fail)
        failed = pa.array(list(passes.failed), pa.string())
        return {
            name: table.filter(pc.invert(pc.is_in(table.column("prompt_id"), value_set=failed)))
            for name in self.session.kept - {ALWAYS}
            for table in (run.arrow(name),)
        }


def _row(record: Record, one: Encoded | Exception, failed: dict[str, Exception]) -> dict[str, Any]:
    """The record's row in ``prompts``."""
    if not isinstance(record.prompt, Prompt):
        return unread_row(record.prompt_id or "", record.text, record.prompt)
    if isinstance(one, Encoded):
        row = prompt_row(record.prompt, one)
        return failed_row(row, failed[one.prompt_id]) if one.prompt_id in failed else row
    return failed_row(prompt_row(record.prompt, ElimError("")), one)


def find_size(
    session: Session, encoded: Sequence[Encoded], defects: Defects, largest: int = LARGEST_SIZE
) -> int:
    """Double the number of prompts in a forward pass, the longest of them, until memory is full.

    Args:
        session: What is measured.
        encoded: Prompts of a shard.
        defects: Takes a failure that memory does not explain.
        largest: Where to stop.

    Returns:
        Half of the last number that fit, since prompts of later shards may be longer; ``largest`` where all
        did.
    """
    longest = sorted(encoded, key=lambda one: -len(one.token_ids))
    size = FIRST_SIZE
    while size < largest:
        some = [longest[index % len(longest)] for index in range(2 * size)]
        try:
            run_batch(session.model, some, session.settings, session.lens)
        except Exception as error:  # a trial must not end the run
            free_memory()
            if out_of_memory(error):
                return size // 2
            if is_defect(error):
                defects.add(error)
            return size
        size *= 2
    return size
