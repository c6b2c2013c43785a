"""List the tables of a comparison by name; a new one needs a definition in this folder and an entry here."""

from __future__ import annotations

from elimtool.run.columns import Table
from elimtool.run.tables.comparison.associations import ASSOCIATION_CONTRAST
from elimtool.run.tables.comparison.attention import ATTENTION_DIFFERENCES, HEAD_DIFFERENCES
from elimtool.run.tables.comparison.contrasts import CONTRAST_DIFFERENCES
from elimtool.run.tables.comparison.layers import DIVERGENCE, LAYER_DIFFERENCES, LENS_DIFFERENCES
from elimtool.run.tables.comparison.maps import MAP_DIFFERENCES
from elimtool.run.tables.comparison.pairs import ALIGNMENT, PAIRS
from elimtool.run.tables.comparison.sources import SOURCE_DIFFERENCES
from elimtool.run.tables.comparison.speculation import SPECULATION, SPECULATION_RULES, SPECULATION_STEPS
from elimtool.run.tables.comparison.stages import (
    SAMPLING_DIFFERENCES,
    STAGE_DIFFERENCES,
    SURVIVOR_DIFFERENCES,
)
from elimtool.run.tables.comparison.statistics import STATISTICS
from elimtool.run.tables.comparison.verdicts import FLIPS, VERDICT_DIFFERENCES

COMPARISON_TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        PAIRS,
        ALIGNMENT,
        VERDICT_DIFFERENCES,
        CONTRAST_DIFFERENCES,
        FLIPS,
        LENS_DIFFERENCES,
        LAYER_DIFFERENCES,
        DIVERGENCE,
        ASSOCIATION_CONTRAST,
        ATTENTION_DIFFERENCES,
        HEAD_DIFFERENCES,
        SOURCE_DIFFERENCES,
        STAGE_DIFFERENCES,
        SAMPLING_DIFFERENCES,
        SURVIVOR_DIFFERENCES,
        SPECULATION,
        SPECULATION_STEPS,
        SPECULATION_RULES,
        MAP_DIFFERENCES,
        STATISTICS,
    )
}
