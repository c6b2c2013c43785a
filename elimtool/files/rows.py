"""Types of table rows outside of Arrow and pandas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
"""Values by column, ``None`` for null."""

Rows = list[Row]


@dataclass(frozen=True)
class Selected:
    """Rows of a table.

    Attributes:
        rows: The first rows that the conditions select, as a ``pyarrow.Table``.
        n_selected: Number of rows that the conditions select.
        n_rows: Number of rows of the table.
    """

    rows: Any
    n_selected: int
    n_rows: int
