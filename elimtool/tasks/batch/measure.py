"""Measure one shard: all tables in input order, prompts that failed as error rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from elimtool.engine.defects import Defects, is_defect
from elimtool.engine.forward import launch
from elimtool.engine.intake import refuse_duplicates, with_defaults
from elimtool.engine.loop import Passes, free_memory
from elimtool.engine.records import failed_row, prompt_row, unread_row
from elimtool.engine.session import Session
from elimtool.errors import ElimError
from elimtool.files.rows import Row
from elimtool.model.lock import exclusive
from elimtool.model.memory import out_of_memory
from elimtool.model.view import Encoded
from elimtool.prompts.chat import ChatSettings
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
"""Prompts in one forward pass on a CPU; on a GPU, where the search for the largest size that fits starts."""

LARGEST_SIZE = 512
"""Most prompts in one forward pass on a GPU, if ``batch_size`` is not given: more gain nothing."""


@dataclass
class MeasuredShard:
    """Tables of one shard, and counts for its marker.

    Attributes:
        tables: Kept tables by name, rows in input order.
        prompts: Number of records.
        errors: Number of error rows.
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
    """Measure shards with one model.

    Args:
        session: What to measure, and with which model.
        targets: Continuations to follow, for prompts that name none of their own.
        foils: Continuations to contrast them with, likewise.
        batch_size: Prompts in one forward pass at most; ``None`` finds how many fit on a GPU.
        chat: What chat templates are given, where a prompt does not say.
    """

    def __init__(
        self,
        session: Session,
        targets: tuple[str, ...] = (),
        foils: tuple[str, ...] = (),
        batch_size: int | None = None,
        chat: ChatSettings | None = None,
    ) -> None:
        self.session = session
        self.chat = chat
        self.targets = targets
        self.foils = foils
        cpu = session.model.device.type != "cuda"
        self.batch_size = FIRST_SIZE if batch_size is None and cpu else batch_size

    @exclusive
    def measure(self, shard: Shard, manifest: Manifest) -> MeasuredShard:
        """Measure one shard; a prompt that cannot be used or measured becomes an error row.

        Raises:
            ElimError: Two prompts of the shard have the same id once they are rendered.
        """
        defects = Defects()
        found = self._encode(shard.records, defects)
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
        tables = self._tables(passes, usable, [record_row(*one)["prompt_id"] for one in pairs], manifest)
        # only now: judging may fail for prompts that were measured
        rows = [record_row(*one, passes.failed) for one in pairs]
        for row in rows:
            row["left_out"] = None if row["status"] == "error" else passes.lacking[row["prompt_id"]]
            row["token_priors"] = self.session.priors_of(row["token_ids"])
        tables["prompts"] = TABLES["prompts"].from_rows(rows)
        errors = sum(row["status"] == "error" for row in rows)
        return MeasuredShard(tables, len(rows), errors, passes.tokens, passes.slots, defects)

    def _encode(self, records: Sequence[Record], defects: Defects) -> list[Encoded | Exception]:
        read = [one.prompt for one in records if isinstance(one.prompt, Prompt)]
        asked = [with_defaults(prompt, self.targets, self.foils, self.chat) for prompt in read]
        encoded = iter(self.session.attempt_all(asked, lambda error: _count(defects, error)))
        found = [next(encoded) if isinstance(one.prompt, Prompt) else one.prompt for one in records]
        for one in found:
            if isinstance(one, Exception) and not isinstance(one, ElimError):
                defects.add(one)
        return found

    def _tables(
        self, passes: Passes, usable: Sequence[Encoded], ids: Sequence[str], manifest: Manifest
    ) -> dict[str, pa.Table]:
        """Make all kept tables but ``prompts``, without the prompts that failed."""
        run = Run.from_tables(manifest, passes.tables(ids, self.session.measured))
        left = [one for one in usable if one.prompt_id not in passes.failed]
        run = judge(self.session, run, left, passes.fail)
        failed = pa.array(list(passes.failed), pa.string())
        return {
            name: table.filter(pc.invert(pc.is_in(table.column("prompt_id"), value_set=failed)))
            for name in self.session.kept - {ALWAYS}
            for table in (run.arrow(name),)
        }


def record_row(record: Record, one: Encoded | Exception, failed: Mapping[str, Exception] = {}) -> Row:
    """Make the record's row of ``prompts``.

    Args:
        record: A record of the prompt file.
        one: Its prompt as the model sees it, or why there is none.
        failed: Prompts whose measurement failed, by id.
    """
    if not isinstance(record.prompt, Prompt):
        return unread_row(record.prompt_id or "", record.text, record.prompt)
    if isinstance(one, Encoded):
        row = prompt_row(record.prompt, one)
        why = failed.get(one.prompt_id)
        return row if why is None else failed_row(row, record.prompt.located(why))
    return failed_row(prompt_row(record.prompt, ElimError("")), one)


def find_size(
    session: Session, encoded: Sequence[Encoded], defects: Defects, largest: int = LARGEST_SIZE
) -> int:
    """Find how many prompts fit into one forward pass, by doubling their number until memory is full.

    Args:
        session: What is measured.
        encoded: Prompts of a shard; the longest are tried.
        defects: Records a failure that is not for lack of memory.
        largest: Size at which to stop.

    Returns:
        Half of the last size that fit, since prompts of later shards may be longer; ``largest`` if all did.
    """
    longest = sorted(encoded, key=lambda one: -len(one.token_ids))
    size, vocab = FIRST_SIZE, session.model.vocab
    while size < largest:
        some = [longest[index % len(longest)] for index in range(2 * size)]
        # each begins in its own way: what prompts share would run once, and more of them seem to fit
        some = [replace(one, token_ids=(at % vocab, *one.token_ids[1:])) for at, one in enumerate(some)]
        try:
            launch(session.model, some, session.settings, session.lens).tables()
        except Exception as error:  # a trial must not end the run
            free_memory()
            if out_of_memory(error):
                return size // 2
            _count(defects, error)
            return size
        size *= 2
    return size


def _count(defects: Defects, error: Exception) -> None:
    """Count an error that is no prompt's."""
    if is_defect(error):
        defects.add(error)
