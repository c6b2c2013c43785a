"""The table of two maps: which roles of heads, and which numbers of layers, are not the same."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, LAYER, STRING, Column, Table, probability
from elimtool.run.tables.comparison.sides import compared, sides

NO_PAIRS = "fewer than 2 passages or probes were measured on both sides"
NO_ROLE = "the measure is not a role of heads"

MAP_DIFFERENCES = Table(
    "map_differences",
    "Which roles of heads moved, appeared or vanished between two maps, and which layers changed.",
    "one row per layer, head and role, and one per layer and other measure",
    (
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
            "A role, as in head_roles, or a column of layers that is a mean over passages.",
        ),
        *compared(
            Column(
                "score",
                FLOAT,
                "Mean over the passages or probes that both maps have.",
                "share, but nats for skip_kl and skip_nll, 1 - cosine for influence, half turns for angular",
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
            "p", "Two-sided p-value of score_difference: sign flips over passages or probes.", NO_PAIRS
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
        Column("n_units", INT, "Passages or probes that both maps have.", "passages", ">= 1"),
    ),
)
