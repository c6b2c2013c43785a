"""The table of statistics: the differences of all pairs together, with intervals and error rates."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, STRING, Column, Table, probability

ONE_UNIT = "there are fewer than two units to resample"

STATISTICS = Table(
    "statistics",
    "How far the two sides differ over all pairs, and how certain that is.",
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
        Column(
            "chain",
            STRING,
            "Chain of the metric.",
            null_when="the metric has no chain, or the chains have two names",
        ),
        Column("stage", STRING, "Stage of the metric.", null_when="the metric has no stage"),
        Column("span", STRING, "Span of the metric.", null_when="the metric has no span"),
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
            "Units that are resampled: templates if there are at least two, else groups, else (and within a"
            " group without templates) pairs. A pair without a template or group is its own unit.",
            unit="units",
            range="1 .. n_pairs",
        ),
        Column(
            "mean_a",
            FLOAT,
            "Mean on side A over these units.",
            unit="the metric's own",
            null_when="the metric is a ratio of the two sides",
        ),
        Column(
            "mean_b",
            FLOAT,
            "Mean on side B over these units.",
            unit="the metric's own",
            null_when="the metric is a ratio of the two sides",
        ),
        Column(
            "mean_difference",
            FLOAT,
            "Mean of B minus A over units: each counts once, with its pairs' mean.",
            unit="the metric's own",
        ),
        Column(
            "ci_low",
            FLOAT,
            "Lower end of the 95 % interval of mean_difference.",
            unit="the metric's own",
            null_when=ONE_UNIT,
        ),
        Column("ci_high", FLOAT, "Its upper end.", unit="the metric's own", null_when=ONE_UNIT),
        probability(
            "p_value",
            "Two-sided p-value of a sign-flip permutation test over units: that the signs are chance.",
            null_when=ONE_UNIT,
        ),
        Column(
            "q_value",
            FLOAT,
            "p_value adjusted over the family by Benjamini-Hochberg: the lowest false discovery rate at which"
            " the difference counts.",
            unit="probability",
            range="p_value .. 1",
            null_when="p_value is null",
        ),
        Column(
            "family",
            STRING,
            "The tests that q_value is adjusted over: their number and scope, by layer or without a layer.",
            null_when="p_value is null",
        ),
        Column(
            "method",
            STRING,
            "Method of the interval: BCa or percentile bootstrap; for shares Newcombe's for pairs (a yes or"
            " no a unit and side, or no unit differs) or Student's t over units.",
            range="bca, percentile, newcombe, t",
            null_when=ONE_UNIT,
        ),
    ),
)
