"""The table of sources in a comparison: what each part wrote for each target on the two sides."""

from __future__ import annotations

from elimtool.run.columns import TARGET, TARGET_TOKEN, Table
from elimtool.run.tables.comparison.sides import PAIR_ID, compared, sides
from elimtool.run.tables.sources import SOURCE_SPANS, SPAN

_COLUMNS = {column.name: column for column in SOURCE_SPANS.columns}

SOURCE_DIFFERENCES = Table(
    "source_differences",
    "What each part of the prompt wrote for and against each target on the two sides.",
    "one row per pair, target and span that both sides have",
    (
        PAIR_ID,
        TARGET,
        SPAN,
        *sides(TARGET_TOKEN),
        *(
            column
            for name in ("dla_centred", "z", "promoted", "opposed")
            for column in compared(_COLUMNS[name])
        ),
        *sides(_COLUMNS["top_layer"]),
        *sides(_COLUMNS["top_head"]),
    ),
)
