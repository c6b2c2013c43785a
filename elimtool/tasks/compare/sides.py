"""One side of a comparison of prompts: what a trace of its prompts would hold, gathered pair by pair."""

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
    """The prompts of one side, measured one after another.

    Args:
        session: What is measured.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tables: dict[str, list[Any]] = {}

    def add(self, prompt: Prompt, one: Encoded | ElimError) -> Mapping[str, Any]:
        """Measure a prompt in a pass of its own; one that failed is a row that says why.

        Returns:
            The tables that the prompt adds.
        """
        tables = {"prompts": arrow_table("prompts", prompt_rows([prompt], [one]))}
        if isinstance(one, Encoded):
            tables |= measure_together(self.session, [one])
        for name, table in tables.items():
            self.tables.setdefault(name, []).append(table)
        return tables

    def add_unread(self, prompt_id: str, why: str) -> None:
        """Keep a record that is no prompt as a row that says why."""
        row = TABLES["prompts"].from_rows([unread_row(prompt_id, None, ElimError(why))])
        self.tables.setdefault("prompts", []).append(row)

    def run(self, facts: Manifest) -> Run:
        """Make a run of the side, judged as a trace is.

        Args:
            facts: What was run.
        """
        run = Run.from_tables(facts, {name: pa.concat_tables(parts) for name, parts in self.tables.items()})
        return judge(self.session, run, ()).only(self.session.kept)
