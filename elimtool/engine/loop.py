"""Run encoded prompts through the model, bucket by bucket, and put their tables in the prompts' order.

This is the measuring loop of trace, batch, check and compare:

    Passes.run -> buckets -> launch_together -> launch (own pass, then under interventions) -> walk -> tables

On a device other than the processor the next pass is asked for before the tables of one are filled, so that
the device does not wait for the host. A pass that runs out of memory is repeated in halves. Any other failure
is raised, or, if the caller counts defects, costs only the prompt that caused it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from elimtool.engine.buckets import LITTLE, passes_of, slots_of
from elimtool.engine.defects import Defects, described, is_defect
from elimtool.engine.follow import Leaders
from elimtool.engine.forward import Extra, Pending, launch
from elimtool.engine.records import arrow_table
from elimtool.engine.session import Session
from elimtool.metrics.rollout import Rollout
from elimtool.model.memory import LogitRoom, out_of_memory
from elimtool.model.model import Model
from elimtool.model.prefix import PassKeys
from elimtool.model.view import Encoded
from elimtool.run.schema import ONE_PASS

Tables = dict[str, pa.Table]
Launched = tuple[Sequence[Encoded], Callable[[], Tables]]
"""Prompts whose pass has been asked for, and what waits for its results and fills their tables."""
T = TypeVar("T")


def measure_together(session: Session, some: Sequence[Encoded], extra: Sequence[Extra] = ()) -> Tables:
    """Ask for what is measured of some prompts together, and fill its tables; see ``launch_together``."""
    return launch_together(session, some, extra)()


def launch_together(
    session: Session,
    some: Sequence[Encoded],
    extra: Sequence[Extra] = (),
    under: Sequence[Extra] = (),
    lacking: dict[str, list[str]] | None = None,
    room: LogitRoom | None = None,
) -> Callable[[], Tables]:
    """Ask for a forward pass over some prompts and one under the interventions, and generate from each.

    Args:
        session: The model and what to measure.
        some: The prompts, none or all of them texts that are scored.
        extra: The caller's own metrics, which see the pass without interventions only.
        under: Those that see the pass under the interventions only.
        lacking: See ``Session.beside``.
        room: Memory that passes before have used for their logits.

    Returns:
        What fills the tables, rows of the pass without interventions first; to be called once.
    """
    room = room or LogitRoom()
    leaders = Leaders()  # the second pass follows the tokens that led in the first, so that rows compare
    settings = session.settings_for(some[0])
    keys = PassKeys() if session.goes_on(some) else None
    with session.model.keeping(keys):
        passes = [launch(session.model, some, settings, session.lens, leaders, extra, room=room)]
    if session.under is not None:
        passes.append(launch(session.under, some, settings, session.lens, leaders, under, room=room))
    if "rollout" in session.measured:
        for model in filter(None, (session.model, session.under)):
            passes.append(_rolled_out(model, some, session))
    behind: Tables = {}
    for row, one in enumerate(some):
        kept = None if keys is None else keys.of(row, len(one.token_ids))
        beside = session.beside(one, lacking, kept)
        filled = {name: columns for name, columns in beside.items() if name in session.measured}
        _append(behind, {name: arrow_table(name, columns) for name, columns in filled.items()})

    def tables() -> Tables:
        found: Tables = {}
        for one in passes:
            _append(found, one.tables())
        _append(found, behind)
        return found

    return tables


def _rolled_out(model: Model, some: Sequence[Encoded], session: Session) -> Pending:
    """Ask for the table of rollouts in a pass of its own, which sees every row up to the last probed one."""
    settings = replace(session.settings, tables=frozenset(Rollout.tables))
    return launch(model, some, settings, session.lens, extra=[Rollout], before=True)


def attempt(
    some: Sequence[T],
    measure: Callable[[Sequence[T]], None],
    fail: Callable[[T, Exception], None],
    defects: Defects | None,
    clear: Callable[[], None] | None = None,
) -> int:
    """Measure some things together; if that fails, again in halves (out of memory) or one by one.

    Args:
        some: What is measured, at least one.
        measure: Measures some of it and keeps what it found.
        fail: Told what cannot be measured even by itself, and why.
        defects: Counts failures that nothing measured explains; without it the first failure is raised.
        clear: Makes room before it is tried again; ``None`` for ``free_memory``.

    Returns:
        How many could not be measured.
    """
    try:
        measure(some)
    except Exception as error:  # any error costs only its own prompt; defects are counted
        short = out_of_memory(error)
        if defects is None and not (short and len(some) > 1):
            raise
        if len(some) == 1:
            fail(some[0], error)
            return 1
        step = (len(some) + 1) // 2 if short else 1
        suspected = described(error) if is_defect(error) else None
    else:
        return 0
    (clear or free_memory)()  # not in the handler, in which the error still holds the tensors
    parts = (some[start : start + step] for start in range(0, len(some), step))
    failed = sum(attempt(part, measure, fail, defects, clear) for part in parts)
    if defects is not None and suspected and not failed:
        defects.add_described(*suspected)  # together they failed, one by one they did not
    return failed


class Passes:
    """The passes over the prompts of a job, and the tables that they filled.

    Args:
        session: The model and what to measure.
        defects: Counts failures that no prompt explains; without it the first failure is raised.
        extra: The caller's own metrics, which see every pass without interventions.
        under: Those that see every pass under the interventions.
        ahead: Whether the next pass is asked for before the tables of one are filled; ``None`` for a device
            other than the processor.

    Attributes:
        failed: Errors of the prompts that could not be measured, by id.
        lacking: Tables that single prompts could not have, and why, by id; without ``defects`` none, as the
            first failure is raised.
        tokens: Tokens of the prompts that were measured.
        slots: Token slots of their passes, padding included where it runs.
    """

    def __init__(
        self,
        session: Session,
        defects: Defects | None = None,
        extra: Sequence[Extra] = (),
        under: Sequence[Extra] = (),
        ahead: bool | None = None,
    ) -> None:
        self.session = session
        self.ahead = session.model.device.type != "cpu" if ahead is None else ahead
        self.defects = defects
        self.extra = extra
        self.under = under
        self.failed: dict[str, Exception] = {}
        self.lacking: dict[str, list[str]] = {}
        self.tokens = 0
        self.slots = 0
        self._parts: dict[str, list[pa.Table]] = {}
        self._launched: list[Launched] = []
        self._next: list[Launched] = []
        self._room = LogitRoom()

    def run(
        self,
        encoded: Sequence[Encoded],
        size: int,
        progress: Callable[[int, int], None] | None = None,
        little: int = LITTLE,
    ) -> None:
        """Run all prompts, those of similar length together.

        Args:
            encoded: The prompts.
            size: Prompts in one forward pass at most.
            progress: Called with (prompts done, prompts in all).
            little: See ``elimtool.engine.buckets.buckets``.
        """
        self.session.prepare(encoded)
        try:
            self._run(encoded, size, progress or (lambda *_: None), little)
        finally:
            # of what failed or was interrupted nothing is kept
            self._launched, self._next, self._room = [], [], LogitRoom()

    def _run(
        self, encoded: Sequence[Encoded], size: int, progress: Callable[[int, int], None], little: int
    ) -> None:
        done = 0
        kinds = ([one for one in encoded if (one.prompt.scored is None) == asks] for asks in (True, False))
        for some in filter(None, kinds):
            texts, apart = [one.token_ids for one in some], self.session.under is not None
            for group in passes_of(self.session.model, texts, size, little=little, apart=apart):
                attempt([some[index] for index in group], self._launch, self.fail, self.defects, self._clear)
                self._settle()
                done += len(group)
                if ready := done - sum(len(one) for one, _ in self._launched):
                    progress(ready, len(encoded))
        if self._launched:
            self._settle()
            progress(done, len(encoded))

    def _launch(self, some: Sequence[Encoded]) -> None:
        """Ask for what is measured of some prompts together, and fill their tables now or later."""
        if self.ahead:
            self._next.append((some, self._launched_together(some)))
        else:
            self._keep(some, self._launched_together(some)())

    def _launched_together(self, some: Sequence[Encoded]) -> Callable[[], Tables]:
        lacking = None if self.defects is None else self.lacking
        return launch_together(self.session, some, self.extra, self.under, lacking, self._room)

    def _settle(self) -> None:
        """Fill the tables of the passes before the last ones; they are the last ones' turn then.

        What fails costs only its own prompts: they are measured again, apart.
        """
        for launched in self._launched:
            attempt(launched[0], partial(self._fill, launched), self.fail, self.defects)
        self._launched, self._next = self._next, []

    def _fill(self, launched: Launched, some: Sequence[Encoded]) -> None:
        whole, tables = launched
        self._keep(some, tables() if some is whole else self._launched_together(some)())

    def _clear(self) -> None:
        """Make room for passes that are tried again."""
        self._settle()
        self._room = LogitRoom()
        free_memory()

    def _keep(self, some: Sequence[Encoded], tables: Tables) -> None:
        for name, table in tables.items():
            self._parts.setdefault(name, []).append(table)
        lengths = [len(one.token_ids) for one in some]
        self.tokens += sum(lengths)
        texts = [one.token_ids for one in some]
        shared = not self.session.goes_on(some) and self.session.model.shares(texts)
        self.slots += sum(lengths) if shared else slots_of(lengths)

    def fail(self, one: Encoded, error: Exception) -> None:
        """Note why a prompt could not be measured."""
        if self.defects is not None and is_defect(error):
            self.defects.add(error)
        self.failed[one.prompt_id] = error.with_traceback(None)  # whose frames hold the tensors of the pass

    def tables(self, ids: Sequence[str], names: Collection[str] = ()) -> Tables:
        """Join the tables that the passes filled.

        Args:
            ids: All prompts, in the order that their rows should have.
            names: Tables to return even where nothing filled them.
        """
        order = pa.array(ids, pa.string())
        return {
            name: _in_order(name, self._parts[name], order)
            if name in self._parts
            else self.session.definitions[name].schema.empty_table()
            for name in {*self._parts, *names}
        }


def _in_order(name: str, parts: Sequence[pa.Table], order: pa.Array) -> pa.Table:
    """Join parts of a table: rows without intervention first, prompts as in ``order``, else as they were."""
    table = pa.concat_tables(parts).combine_chunks()
    places = pc.index_in(table.column("prompt_id"), value_set=order).to_numpy()
    if name not in ONE_PASS:
        places = places + len(order) * table.column("intervention").is_valid().to_numpy()
    if (np.diff(places) >= 0).all():  # the usual case; sorting would copy every column
        return table
    return table.take(pa.array(np.argsort(places, kind="stable")))


def _append(tables: Tables, more: Mapping[str, pa.Table]) -> None:
    """Append rows to the tables of the same names."""
    for name, table in more.items():
        tables[name] = pa.concat_tables([tables[name], table]) if name in tables else table


def free_memory() -> None:
    """Return GPU memory that a failed pass left in torch's cache."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
