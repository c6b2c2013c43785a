"""Say which role each head of a model has, where a map of it is at hand."""

from __future__ import annotations

from collections.abc import Mapping

from elimtool.files.rows import Row, Rows

LAST = ("dormant", "sink")
"""Roles that most heads have: any other one is named before them."""


def by_head(rows: Rows) -> Mapping[tuple[int, int], Rows]:
    """Group rows of ``head_roles`` by layer and head."""
    found: dict[tuple[int, int], Rows] = {}
    for row in rows:
        found.setdefault((row["layer"], row["head"]), []).append(row)
    return found


def strongest(rows: Rows) -> Row | None:
    """Choose the present role that stands farthest over its null; sinks and dormant heads come last."""
    present = [row for row in rows if row["present"]]
    return max(present, key=_strength, default=None)


def _strength(row: Row) -> tuple[bool, float]:
    return row["role"] not in LAST, row["score"] - (row["null"] or 0.0)
