"""The table of statistics: the differences of all pairs together, with intervals and error rates."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, STRING, Column, Table

ONE_UNIT = "there are fewer than two units to resample"

STATISTICS = Table(
    "statistics",
    "How far the two sides differ over all pairs, and how sure that is.",
    "one row per metric, scope, value of the scope, layer, chain, stage and span",
    (
        Column(
            "metric",
            STRING,
            "What is compared: TABLE.COLUMN of this comparison, without '_difference'. Truth values count as"
            " 1 and 0; verdict_differences.survived is whether the outcome is 'survived', and"
            " stage_differences.kept whether a target lives through all stages of the chain.",
        ),
        Column(
            "scope",
            STRING,
            "Which pairs count: all, or those of one group, category or tag.",
            range="all, group, category, tag",
        ),
        Column("value", STRING, "Name of the group, category or tag.", null_when="scope is 'all'"),
        Column(
            "layer",
            INT,
            "Layer that the metric is read at.",
            unit="layer index",
            null_when="the metric has no layer",
        ),
        Column("chain", STRING, "Chain that it is of.", null_when="the metric has no chain of one name"),
        Column("stage", STRING, "Stage that it is of.", null_when="the metric has no stage"),
        Column("span", STRING, "Span that it is of.", null_when="the metric has no span"),
        Column(
            "n_pairs",
            INT,
            "Pairs with a number on both sides. A pair with several targets counts once, with their mean.",
            unit="pairs",
            range=">= 1",
        ),
        Column(
            "n_units",
            INT,
            "Units that are resampled: groups where there are two at least, else, and within a group, pairs."
            " Pairs without a group stand for themselves.",
            unit="units",
            range="1 .. n_pairs",
        ),
        Column(
            "mean_a",
            FLOAT,
            "Mean on side A over these pairs.",
            unit="the metric's own",
            null_when="the metric is a ratio of the two sides",
        ),
        Column(
            "mean_b",
            FLOAT,
            "Mean on side B over these pairs.",
            unit="the metric's own",
            null_when="the metric is a ratio of the two sides",
        ),
        Column("mean_difference", FLOAT, "Mean of B minus A over these pairs.", unit="the metric's own"),
        Column(
            "ci_low",
            FLOAT,
            "Lower end of the 95 % interval of mean_difference.",
            unit="the metric's own",
            null_when=ONE_UNIT,
        ),
        Column("ci_high", FLOAT, "Its upper end.", unit="the metric's own", null_when=ONE_UNIT),
        Column(
            "p_value",
            FLOAT,
            "Two-sided p-value that the signs of the differences are chance: sign-flip permutation of units.",
            unit="probability",
            range="0 .. 1",
            null_when=ONE_UNIT,
        ),
        Column(
            "q_value",
            FLOAT,
            "p_value adjusted by Benjamini and Hochberg over the family: the false discovery rate at which it"
            " would count.",
            unit="probability",
            range="p_value .. 1",
            null_when="p_value is null",
        ),
        Column(
            "family",
            STRING,
            "The tests that q_value is adjusted over: how many of which scope, by layer or without a layer.",
            null_when="p_value is null",
        ),
        Column("method", STRING, "How the interval was made: 'bca' or 'percentile'.", null_when=ONE_UNIT),
    ),
)
