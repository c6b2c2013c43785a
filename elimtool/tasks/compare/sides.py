"""Measure the sides of a comparison of prompts, pair by pair, into the tables of traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from elimtool.engine.loop import Tables, attempt, measure_together
from elimtool.engine.records import arrow_table, prompt_rows, unread_row
from elimtool.errors import ElimError
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt
from elimtool.run import Run
from elimtool.run.schema import TABLES
from elimtool.tasks.trace import judge

if TYPE_CHECKING:
    from elimtool.engine.session import Session
    from elimtool.run.manifest import Manifest


def side_by_side(session: Session, a: Encoded, b: Encoded) -> tuple[Tables, Tables]:
    """Measure two prompts, in one pass where what they begin with alike then runs once for both.

    Exchanging them changes no bit, and nothing differs between equal prompts.
    """
    texts = [one.token_ids for one in (a, b)]
    scored = any(one.prompt.scored is not None for one in (a, b))
    # keys that other endings go on from are kept of whole prompts; rows of scored texts are drawn by id
    if scored or texts[0] == texts[1] or session.goes_on((a, b)) or not session.model.shares(texts):
        return measure_together(session, [a]), measure_together(session, [b])
    # ids of the sides may be equal; one order for both ways round, as sums may depend on the row
    both = [replace(a, prompt_id="a"), replace(b, prompt_id="b")]
    both.sort(key=lambda one: one.token_ids)
    parts: dict[str, list[pa.Table]] = {}

    def measure(some: Sequence[Encoded]) -> None:
        for name, table in measure_together(session, some).items():
            parts.setdefault(name, []).append(table)

    attempt(both, measure, lambda *_: None, None)  # without memory for both, one by one; else it raises
    found = {name: pa.concat_tables(some) for name, some in parts.items()}
    return _of(found, "a", a.prompt_id), _of(found, "b", b.prompt_id)


def _of(found: Tables, side: str, prompt_id: str) -> Tables:
    """Take a side's rows, under the id of its prompt; a table with rows of the other alone is not there."""
    taken: Tables = {}
    for name, table in found.items():
        own, at = table.filter(pc.field("prompt_id") == side), table.schema.get_field_index("prompt_id")
        ids = pa.array([prompt_id] * len(own), table.schema.field(at).type)
        if len(own) or not len(table):
            taken[name] = own.set_column(at, table.schema.field(at), ids)
    return taken


class TracedSide:
    """The prompts of one side and their tables.

    Args:
        session: What to measure, and with which model.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tables: dict[str, list[Any]] = {}

    def add(self, prompt: Prompt, one: Encoded | ElimError, found: Tables | None = None) -> Tables:
        """Add a prompt; one that cannot be used becomes an error row.

        Args:
            prompt: As it was asked for.
            one: As the model sees it.
            found: What was measured of it; by default it is measured, in a pass of its own.

        Returns:
            The tables of this prompt.
        """
        tables = {"prompts": arrow_table("prompts", prompt_rows([prompt], [one]))}
        if isinstance(one, Encoded):
            tables |= measure_together(self.session, [one]) if found is None else found
        for name, table in tables.items():
            self.tables.setdefault(name, []).append(table)
        return tables

    def add_unread(self, prompt_id: str, why: str) -> None:
        """Add a record that could not be read, as an error row."""
        row = TABLES["prompts"].from_rows([unread_row(prompt_id, None, ElimError(why))])
        self.tables.setdefault("prompts", []).append(row)

    def run(self, facts: Manifest) -> Run:
        """Make a run of the side, judged as a trace is.

        Args:
            facts: Manifest of the run.
        """
        run = Run.from_tables(facts, {name: pa.concat_tables(parts) for name, parts in self.tables.items()})
        return judge(self.session, run, ()).only(self.session.kept)
