"""Write the rows of a query as a table for people, CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from elimtool.files.rows import Selected
from elimtool.report.rows import row_lines
from elimtool.run.parts import json_rows

if TYPE_CHECKING:
    from rich.text import Text

    from elimtool.report.screen import Screen


def table_lines(rows: Any, more: bool, screen: Screen) -> list[Text]:
    """Lay the rows out for a screen, as many columns as fit, and say what is not shown."""
    lines = row_lines(Selected(rows, rows.num_rows, rows.num_rows), screen, every_column=False)
    if more:
        lines += screen.wrap("more rows are past the limit (`limit` 0: all)", style="dim")
    return lines


def rendered(rows: Any, kind: str) -> bytes:
    """Return the rows as a file: ``csv``, ``json`` (a list of records), ``parquet``, or a ``table`` in full.

    Lists and records are JSON within CSV. NaN and infinities are null in JSON.
    """
    if kind == "parquet":
        pq.write_table(rows, buffer := io.BytesIO())
        return buffer.getvalue()
    if kind == "json":
        return (json.dumps([_plain(row) for row in json_rows(rows)], allow_nan=False) + "\n").encode()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.column_names)
    for row in rows.to_pylist():
        writer.writerow([_cell(value) for value in row.values()])
    return text.getvalue().encode()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of JSON's own types: times as ISO 8601, what else has no such type as text."""
    found: dict[str, Any] = json.loads(json.dumps(row, default=_text))
    return found


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, default=_text)
    return _text(value) if hasattr(value, "isoformat") else value


def _text(value: Any) -> str:
    return str(value.isoformat() if hasattr(value, "isoformat") else value)
