"""Types of table rows outside of Arrow and pandas."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""Values by column, ``None`` for null."""

Rows = list[Row]
