"""Tell what heads keep beyond what distance explains, and how far they look."""

from __future__ import annotations

from elimtool.analysis.map.categories import ranked
from elimtool.files.rows import Rows

NAMED = 3
"""Heads that a sentence names."""


def category_sentences(rows: Rows) -> list[str]:
    """Tell the table ``head_categories``: for each category the heads that keep it best."""
    told = []
    for category in dict.fromkeys(row["category"] for row in rows):
        known = [row for row in rows if row["category"] == category and row["selectivity"] is not None]
        best = list(ranked(rows, category))
        if best:
            named = ", ".join(
                f"{row['layer']}.{row['head']} {row['selectivity']:.2g} times"
                f" ({row['low']:.2g} to {row['high']:.2g})"
                for row in best[:NAMED]
            )
            told.append(
                f"{category}: {len(best)} of {len(known)} heads keep it more than distance explains: {named}."
            )
    return told
