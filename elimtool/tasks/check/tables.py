"""Find the tables of plugins that a check file names: what metrics define, or what a run carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from elimtool.run import Run
    from elimtool.run.columns import Table


def brought(table: str) -> Table | None:
    """Find a table that a metric of a plugin fills; without one of that name nothing is imported.

    Raises:
        ElimError: The metric cannot be loaded.
    """
    from elimtool.engine.plugins import definition_of

    return definition_of(table)


def carried(*runs: Run) -> Callable[[str], Table | None]:
    """Return what finds a table by what the first of these runs that has it says of it."""
    return lambda table: next((run.definition(table) for run in runs if table in run.tables), None)
