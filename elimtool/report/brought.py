"""Show tables of plugins as they are, since no story and no figure of elimtool's knows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from elimtool.files.rows import Selected
from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Cell, Listing
from elimtool.report.figures.words import SCREEN
from elimtool.report.rows import row_lines
from elimtool.report.screen import Screen
from elimtool.run.columns import INTERVENTION, POSITION, PROMPT_ID, Table
from elimtool.run.schema import TABLES

AT = (PROMPT_ID.name, POSITION.name, INTERVENTION.name)
"""Columns that are the same in all rows of a place."""
FEW = 4
"""Rows of a table in a brief story, the last ones: of layers the ones nearest to the output."""
MOST = 500
"""Rows of a table in a page."""


def of_plugins(probe: Probe) -> Iterator[tuple[Table, Any]]:
    """Yield the definition of each plugin's table that has rows of the place, and these as an Arrow table."""
    for name in probe.run.tables:
        rows = None if name in TABLES else probe.part(name)
        if rows is not None and rows.num_rows:
            yield probe.run.definition(name), rows.select([one for one in rows.column_names if one not in AT])


def brought_lines(probe: Probe, screen: Screen, *, verbose: bool) -> list[Text]:
    """Write the tables of plugins, of each the last rows, or all with ``verbose``."""
    lines: list[Text] = []
    for table, rows in of_plugins(probe):
        count = rows.num_rows if verbose else min(rows.num_rows, FEW)
        shown = rows.slice(rows.num_rows - count)
        lines += screen.titled(screen.visible(table.name), screen.visible(_told(table)))
        told = row_lines(Selected(shown, count, count), screen, every_column=False)
        if count < rows.num_rows:
            said = f"the last {count} of {rows.num_rows:,} rows; -v shows all"
            told = [*told[: 1 + count], *screen.wrap(said, style="dim")]
        lines += told
    return lines


def _told(table: Table) -> str:
    return f"a table of {table.plugin}: {table.purpose.rstrip('?.')}"


def brought(probe: Probe) -> list[Listing]:
    """List the tables of plugins for the page."""
    return [
        Listing(
            name="brought",
            title=SCREEN.visible(f"{table.name}: {table.purpose}"),
            note=SCREEN.visible(_note(table, rows.num_rows)),
            columns=[_heading(table, name) for name in rows.column_names],
            rows=[[_cell(value) for value in row.values()] for row in rows.slice(0, MOST).to_pylist()],
        )
        for table, rows in of_plugins(probe)
    ]


def _note(table: Table, count: int) -> str:
    left_out = f" The first {MOST} of {count:,} rows are shown." if count > MOST else ""
    return f"A table of {table.plugin}, {table.row}.{left_out}"


def _heading(table: Table, name: str) -> str:
    unit = next((column.unit for column in table.columns if column.name == name), "")
    return SCREEN.visible(f"{name} ({unit})" if unit and unit != f"{name} index" else name)


def _cell(value: Any) -> Cell:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    return SCREEN.visible(str(value).lower() if isinstance(value, bool) else str(value))
