"""The table of two maps: which roles of heads, and which numbers of layers, are not the same."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, LAYER, STRING, Column, Table, probability
from elimtool.run.tables.comparison.sides import compared, sides

NO_PAIRS = "fewer than 2 passages or probes were measured on both sides, or n_units is null"
NO_ROLE = "the measure is not a role of heads"

MAP_DIFFERENCES = Table(
    "map_differences",
    "Which roles of heads moved, appeared or vanished between two maps, what heads keep and how far they"
    " look, and which layers and neurons changed.",
    "one row per part, layer, head and measure, and one per part, layer and measure of whole layers",
    (
        Column("part", STRING, "Part of the maps, such as roles, categories, distances, layers, neurons."),
        LAYER,
        Column(
            "head",
            INT,
            "Query head, the same on both sides.",
            "head index",
            "0 .. heads - 1",
            "the measure is of the whole layer",
        ),
        Column(
            "measure",
            STRING,
            "A role, as in head_roles; a category, whose score is the selectivity of head_categories;"
            " reach, the mean distance, each weighed by its lift, or a column of head_kernels; a column of"
            " layers that is a mean over passages; of neurons open (mean share that is open), never_open and"
            " always_open (how many).",
        ),
        *compared(
            Column(
                "score",
                FLOAT,
                "Over the passages or probes that both maps have; columns of head_kernels and counts of"
                " neurons over all passages of each map.",
                "share, but nats for skip_kl and skip_nll, 1 - cosine for influence, half turns for angular,"
                " ratio for categories, tokens for reach and d50, logits for self-bias, neurons for counts",
                null_when="it was not measured there",
            )
        ),
        Column(
            "low",
            FLOAT,
            "Lower end of the 95 % interval of score_difference, over passages or probes, paired.",
            "as score",
            null_when=NO_PAIRS,
        ),
        Column("high", FLOAT, "Its upper end.", "as score", null_when=NO_PAIRS),
        probability(
            "p", "Two-sided p-value of score_difference: sides exchanged by passage or probe.", NO_PAIRS
        ),
        probability(
            "q", "p, adjusted over all heads, or layers, of the measure (Benjamini-Hochberg).", NO_PAIRS
        ),
        *sides(Column("present", BOOL, "Whether the head has the role.", null_when=NO_ROLE)),
        Column(
            "change",
            STRING,
            "appeared: the role is present in B alone, and the scores are 0.05 or more apart; vanished: in A"
            " alone, likewise; moved: in both, and they are 0.1 or more apart; each with q at most 0.05. Else"
            " same.",
            "",
            "appeared, vanished, moved, same",
            f"{NO_ROLE}, or a side is null",
        ),
        Column(
            "n_units",
            INT,
            "Passages or probes that both maps have.",
            "passages",
            ">= 1",
            "the number is of all passages of each map together",
        ),
    ),
)
