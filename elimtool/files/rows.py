"""What a row of a table is outside of Arrow and pandas."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""Values by column, ``None`` for null."""

Rows = list[Row]
