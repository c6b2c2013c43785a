"""The tables of a sweep: scores of variants, effects of factors, and how much of the spread is chance."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, STRING, Column, Table, probability

METRIC = Column(
    "metric",
    STRING,
    "What was scored: survives (share of targets that the chain leaves), logprob (nats), rank (log10 of the"
    " rank) or margin:STAGE (the stage's own unit).",
)
CHAIN = Column(
    "chain", STRING, "Sampler chain of survives and margin.", null_when="the metric is of the model's output"
)
N_ITEMS = Column("n_items", INT, "Items that were scored.", unit="items", range=">= 1")
ONE_ITEM = "there is one item"
FEW = "there are fewer than 6 items"
SEARCHED = "variants were searched, and scored on different items"

SWEEP_VARIANTS = Table(
    "sweep_variants",
    "Which wording is best: the score of each variant over the same items.",
    "one row per variant, the best first",
    (
        Column("variant", STRING, "Template and values of its slots, joined by '/'."),
        Column("template", STRING, "Its template."),
        Column("factors", STRING, "Values of its slots by name, as JSON.", range="a JSON object"),
        N_ITEMS,
        Column("value", FLOAT, "Mean of the metric over its items.", unit="the metric's"),
        Column(
            "ci_low",
            FLOAT,
            "Lower end of the 95 % interval: Wilson's for yes or no, else Student's t over items.",
            unit="the metric's",
            null_when=ONE_ITEM,
        ),
        Column("ci_high", FLOAT, "Upper end.", unit="the metric's", null_when=ONE_ITEM),
        Column(
            "place",
            INT,
            "Place from the best; equal ones share the better place. Of a search, the row's.",
            range="1 .. variants",
        ),
        Column(
            "tied_with_best",
            BOOL,
            "Whether the 95 % interval of the paired difference from the best variant holds 0. The best one"
            " was picked on the same items, so that fewer are tied than should be.",
        ),
        METRIC,
        CHAIN,
    ),
)

SWEEP_EFFECTS = Table(
    "sweep_effects",
    "What each value of each slot does to the score.",
    "one row per factor and level",
    (
        Column("factor", STRING, "A slot, or template, or run."),
        Column("level", STRING, "One of its values."),
        Column("n_variants", INT, "Variants that have it.", unit="variants", range=">= 1"),
        N_ITEMS,
        METRIC,
        Column(
            "main_effect",
            FLOAT,
            "Mean over items of the level's mean minus the mean of all levels. The effects of a factor sum to"
            " 0: one bad level lifts the others.",
            unit="the metric's",
        ),
        Column(
            "ci_low",
            FLOAT,
            "Lower end of its 95 % interval (Student's t over items).",
            unit="the metric's",
            null_when=ONE_ITEM,
        ),
        Column("ci_high", FLOAT, "Upper end.", unit="the metric's", null_when=ONE_ITEM),
        Column("against_best", FLOAT, "The level's mean minus that of the best level.", unit="the metric's"),
        probability("p_value", "p-value of the main effect: sign flips of items.", FEW),
        probability("p_adjusted", "The same, adjusted over the levels of the factor (Holm).", FEW),
        CHAIN,
    ),
)

SWEEP_SPREAD = Table(
    "sweep_spread",
    "How far the best variant is from the worst, and how much of that is chance.",
    "one row per metric",
    (
        METRIC,
        Column("n_variants", INT, "Variants that were scored.", unit="variants", range=">= 2"),
        N_ITEMS,
        Column(
            "spread",
            FLOAT,
            "Mean of the best variant minus that of the worst (FormatSpread).",
            unit="the metric's",
            range=">= 0",
        ),
        Column(
            "spread_null",
            FLOAT,
            "Mean spread where the labels of variants are permuted within items: what chance gives.",
            unit="the metric's",
            range=">= 0",
            null_when=SEARCHED,
        ),
        Column(
            "spread_null_95",
            FLOAT,
            "What 95 % of these spreads do not exceed.",
            unit="the metric's",
            range=">= 0",
            null_when=SEARCHED,
        ),
        probability(
            "p_value",
            "Share of 2,001 data sets, the observed one included, with a spread as large.",
            SEARCHED,
        ),
        Column(
            "spread_holdout",
            FLOAT,
            "Best and worst picked on one half of the items and scored on the other, both ways, averaged: 0"
            " on average where all variants are alike. Of a search: the best and the worst on the items that"
            " neither had been scored on when they were picked.",
            unit="the metric's",
            null_when="there is one item, or a search left none",
        ),
        Column(
            "search",
            STRING,
            "How variants were searched: full scores each on every item.",
            range="full, halving, thompson",
        ),
        Column("n_calls", INT, "Outcomes that were asked for.", unit="outcomes", range=">= 2"),
        CHAIN,
    ),
)

STABILITY = Table(
    "stability",
    "Whether a concept is kept or cut alike in all variants of one thing, against concepts as frequent.",
    "one row per concept, key, layer or chain and stage",
    (
        Column("concept", STRING, "Name of a set of tokens."),
        Column(
            "over",
            STRING,
            "What the variants differ in: wordings of an item (variants), the group's word in a tuple and the"
            " wording without one (edits), the seed of what was written (seeds), the run (runs).",
            range="variants, edits, seeds, runs",
        ),
        Column(
            "key",
            STRING,
            "What they are variants of: an item, a tuple, a prompt and the number of tokens that were written"
            " after it ('ID +3'), with several runs a prompt; or 'all': the mean over these.",
        ),
        Column("layer", INT, "Layer, -1 for the embedding.", null_when="the row is of a sampler's stage"),
        Column("chain", STRING, "Sampler chain.", null_when="the row is of a layer"),
        Column("stage", STRING, "Stage of the chain.", null_when="the row is of a layer"),
        Column("n", INT, "Variants; for 'all' the sum over keys.", unit="variants", range=">= 2"),
        Column(
            "membership",
            FLOAT,
            "Share of variants in which a token of the concept is alive: in the 0.9 nucleus of the layer, or"
            " behind the stage.",
            unit="share",
            range="0 .. 1",
        ),
        Column(
            "agreement",
            FLOAT,
            "Share of pairs of variants that agree on that.",
            unit="share",
            range="0 .. 1",
        ),
        Column(
            "flips",
            INT,
            "Variants that do not agree with the reference; for 'all' the sum.",
            unit="variants",
            range=">= 0",
            null_when="the reference is not among them",
        ),
        Column(
            "reference",
            STRING,
            "Variant that flips are counted from: the first wording, seed or run, the wording of a tuple"
            " without the group's word, else its first group.",
            null_when="it was not measured of this key",
        ),
        Column(
            "mass_stability",
            FLOAT,
            "1 minus the mean over pairs of the Jensen-Shannon divergence (bits) between the concept's mass"
            " and the rest.",
            unit="share",
            range="0 .. 1",
        ),
        Column(
            "rbo",
            FLOAT,
            "Mean over pairs of the rank-biased overlap (p 0.9, extrapolated) of the output's 0.9 nuclei, of"
            " 20 tokens at most. A list that begins another one scores 1: look at the sizes.",
            unit="share",
            range="0 .. 1",
            null_when="the row is not of the last layer, or the run has no top_tokens",
        ),
        Column("rbo_smallest", INT, "Survivors of the variant that has fewest.", null_when="rbo is null"),
        Column("rbo_largest", INT, "Survivors of the variant that has most.", null_when="rbo is null"),
        Column(
            "control_agreement",
            FLOAT,
            "Mean agreement of 20 control sets of as many tokens, as frequent.",
            unit="share",
            range="0 .. 1",
            null_when="the run holds no control sets",
        ),
        Column(
            "excess",
            FLOAT,
            "agreement minus control_agreement: a concept that is never there agrees with itself.",
            unit="share",
            range="-1 .. 1",
            null_when="the run holds no control sets",
        ),
        probability(
            "p_value",
            "(1 + control sets that agree as often) / (1 + control sets).",
            "the run holds no control sets",
        ),
    ),
)
