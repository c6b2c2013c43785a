"""The table of contrasts in a comparison: how far a target is ahead of a foil on the two sides."""

from __future__ import annotations

from dataclasses import replace

from elimtool.run.columns import BOOL, INT, TARGET, TARGET_TOKEN, Column, Table
from elimtool.run.tables.comparison.sides import EITHER, PAIR_ID, compared, sides
from elimtool.run.tables.contrasts import DIFFERENCE, FOIL, FOIL_TOKEN

CONTRAST_DIFFERENCES = Table(
    "contrast_differences",
    "How far each target is ahead of each foil on the two sides.",
    "one row per pair, target and foil that both sides followed",
    (
        PAIR_ID,
        TARGET,
        FOIL,
        *sides(TARGET_TOKEN),
        *sides(FOIL_TOKEN),
        *compared(replace(DIFFERENCE, name="contrast")),
        Column(
            "changed",
            BOOL,
            "Whether the one that is ahead on side A is not ahead on side B.",
            null_when=EITHER,
        ),
        *sides(
            Column(
                "decision_layer",
                INT,
                "First block from which on the difference keeps the sign that it has in the output.",
                unit="layer index",
                range="0 .. layers - 1",
                null_when="the two are level in the output",
            )
        ),
    ),
)
