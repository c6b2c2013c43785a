"""The table of what the passages and probes of a model map add up to."""

from __future__ import annotations

import pyarrow as pa

from elimtool.run.columns import INTS, STRING, Column, Table

MAP_SUMS = Table(
    "map_sums",
    "What each part of a model map summed over the rows of a passage or probe: the findings are made of it.",
    "one row per part, array and passage or probe, or the passages and probes of a shard together",
    (
        Column("part", STRING, "Part of the map, such as roles."),
        Column("array", STRING, "Name of the array within the part."),
        Column(
            "unit",
            STRING,
            "Passage or probe, the prompt_id of its row in prompts.",
            null_when="the array is summed over those of the shard",
        ),
        Column("shape", INTS, "Lengths of the array's axes, such as layers and heads.", "entries", ">= 0"),
        Column(
            "values",
            pa.list_(pa.float64()),
            "Its numbers, the last axis fastest: sums and counts.",
            "that of the array",
        ),
    ),
)
