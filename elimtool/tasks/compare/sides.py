"""Measure one side of a comparison of prompts, prompt by prompt, into the tables of a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from elimtool.engine.loop import measure_together
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


class TracedSide:
    """The prompts of one side and their tables.

    Args:
        session: What to measure, and with which model.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tables: dict[str, list[Any]] = {}

    def add(self, prompt: Prompt, one: Encoded | ElimError) -> Mapping[str, Any]:
        """Measure a prompt in a pass of its own; one that cannot be used becomes an error row.

        Returns:
            The tables of this prompt.
        """
        tables = {"prompts": arrow_table("prompts", prompt_rows([prompt], [one]))}
        if isinstance(one, Encoded):
            tables |= measure_together(self.session, [one])
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
