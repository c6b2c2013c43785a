"""Measure the encoded prompts of one side, one by one, as a trace of them would."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from elimtool.analysis.verdict import verdicts
from elimtool.engine.loop import run_batch
from elimtool.engine.records import arrow_table, concatenate, prompt_rows, unread_row
from elimtool.errors import ElimError
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt
from elimtool.run import Run

if TYPE_CHECKING:
    from elimtool.lenses.lens import Lens
    from elimtool.metrics.metric import Settings
    from elimtool.model.model import Model
    from elimtool.run.manifest import Manifest


class TracedSide:
    """One side of a comparison of prompts: its tables as they grow.

    Args:
        model: The model.
        lens: How layers are read out.
        settings: What is measured.
    """

    def __init__(self, model: Model, lens: Lens, settings: Settings) -> None:
        self.model = model
        self.lens = lens
        self.settings = settings
        self.tables: dict[str, list[Any]] = {}

    def add(self, prompt: Prompt, one: Encoded | ElimError) -> Mapping[str, Any]:
        """Trace a prompt as it was encoded, in a pass of its own; one that failed is a row that says why.

        Returns:
            The tables that the prompt adds.
        """
        tables = {"prompts": arrow_table("prompts", prompt_rows([prompt], [one]))}
        if isinstance(one, Encoded):
            tables |= run_batch(self.model, [one], self.settings, self.lens)
        for name, table in tables.items():
            self.tables.setdefault(name, []).append(table)
        return tables

    def add_unread(self, prompt_id: str, why: str) -> None:
        """Keep a record that is no prompt as a row that says why."""
        row = unread_row(prompt_id, None, ElimError(why))
        columns = {name: [value] for name, value in row.items()}
        self.tables.setdefault("prompts", []).append(arrow_table("prompts", columns))

    def run(self, facts: Manifest, kept: Collection[str]) -> Run:
        """The run, with verdicts where what they are made of was measured.

        Args:
            facts: What was run.
            kept: The tables to keep.
        """
        whole = {name: concatenate(parts) for name, parts in self.tables.items()}
        run = Run.from_tables(facts, whole)
        if "survival" in whole:
            run = run.with_rows("verdicts", [{**row, "intervention": None} for row in verdicts(run)])
        return run.only(kept)
