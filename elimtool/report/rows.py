"""Print rows of a table for people: as many columns as fit, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from elimtool.files.rows import Row, Rows, Selected
from elimtool.report.screen import Screen, padded

WIDEST = 40
GAP = 2


def row_lines(selected: Selected, screen: Screen, every_column: bool) -> list[Text]:
    """Lay out rows under their column names.

    Args:
        selected: The rows.
        screen: Where it is printed.
        every_column: Whether the user chose the columns: then all are shown, however wide.
    """
    rows: Rows = selected.rows.to_pylist()
    names = selected.rows.column_names
    told = [name for name in names if every_column or any(row[name] is not None for row in rows)] or names
    cells = {name: [_cell(row, name, screen) for row in rows] for name in told}
    widths = {name: max(map(cell_len, [name, *cells[name]])) for name in told}
    if not every_column:
        told = _fitting(told, widths, screen.width)
    right = {name for name in told if any(isinstance(row[name], int | float) for row in rows)}
    lines = [Text(_line([(name, widths[name], name in right) for name in told]), style="bold")]
    for index in range(len(rows)):
        parts = [(cells[name][index], widths[name], name in right) for name in told]
        lines.append(Text(_line(parts), no_wrap=True, overflow="ignore"))
    return lines + _left_out(selected, len(rows), [name for name in names if name not in told], screen)


def _cell(row: Row, name: str, screen: Screen) -> str:
    value = row[name]
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.6g}"
    return screen.shorten(screen.visible(_plain(value)), WIDEST)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) and value != value.strip() else str(value)


def _fitting(names: Sequence[str], widths: dict[str, int], room: int) -> list[str]:
    """The first columns that fit beside each other, at least one."""
    chosen: list[str] = []
    used = 0
    for name in names:
        if chosen and used + widths[name] > room:
            break
        chosen.append(name)
        used += widths[name] + GAP
    return chosen


def _line(parts: Sequence[tuple[str, int, bool]]) -> str:
    return (" " * GAP).join(padded(text, width, right=right) for text, width, right in parts).rstrip()


def _left_out(selected: Selected, shown: int, hidden: list[str], screen: Screen) -> list[Text]:
    """Say how many rows and which columns are not shown."""
    of = f" of {selected.n_rows:,} in the table" if selected.n_selected < selected.n_rows else ""
    notes = []
    if shown < selected.n_selected:
        notes.append(f"{shown:,} of {selected.n_selected:,} rows{of}: the others are past the limit")
    else:
        notes.append(f"{shown:,} row{'' if shown == 1 else 's'}{of}")
    if hidden:
        notes.append(f"columns not shown, for want of room or as they are null: {', '.join(hidden)}")
    return [line for note in notes for line in screen.wrap(note, style="dim", hang=2)]
