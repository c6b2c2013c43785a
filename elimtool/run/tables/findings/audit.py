"""The tables of ``elimtool audit``: differences between groups at each stage."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, STRING, STRINGS, Column, Table, probability

UNLAYERED = "the outcome has no layer"
ALL = "it is over all categories"
FEW = "there are fewer than two templates"
TOO_FEW = "there are fewer than 6 templates"
WORDS = "the scope is words, or each template has words of its own"

METRIC = Column(
    "metric",
    STRING,
    "The outcome: lens.logit (target minus foil; nats), lens.logprob, of the output logprob (of the first"
    " token, beside a foil), log10_rank (decades) and survival.target_logprob (of the whole target),"
    " attention.lift_no_sink (ratio), survives and stage_share (share of records"
    " that a chain leaves, and what a stage changes of it), outcome.late_eliminated and its like (share);"
    " sentence.suffix, sentence.word and sentence.lm-eval (log-probability of a published pair's sentence by"
    " three rules; nats).",
)
TARGET = Column("target", STRING, "Target.", null_when="each group has its own, or the outcome has none")
FOIL = Column("foil", STRING, "Foil that the target is set against.", null_when="the outcome has none")
CATEGORY = Column(
    "category",
    STRING,
    "Category of the templates, with those below it.",
    null_when="it is over all templates",
)
GROUP_A = Column("group_a", STRING, "First group.")
GROUP_B = Column("group_b", STRING, "Second group; 'others' for the mean of all others.")
UNIT = Column("unit", STRING, "Unit of the outcome: nats, decades, ratio or share.")

AUDIT_EFFECTS = Table(
    "audit_effects",
    "How far apart two groups are, at each stage from attention to verdict, and how certain that is.",
    "one row per outcome, its layer or chain and stage, target, foil, category and pair of groups",
    (
        Column(
            "family",
            STRING,
            "Tests that were adjusted together: confirmatory, stages, layers, normalised, other or"
            " categories.",
        ),
        METRIC,
        UNIT,
        Column(
            "layer",
            INT,
            "Block, from 0; -1 is the embedding. The last layer is the model's own output.",
            "layer index",
            "-1 .. layers - 1",
            UNLAYERED,
        ),
        Column("chain", STRING, "Sampler chain.", null_when="the outcome is of the model alone"),
        Column("stage", STRING, "Stage of the chain.", null_when="the outcome is of no stage"),
        Column("span", STRING, "Span that is attended to.", null_when="the outcome is not attention"),
        TARGET,
        FOIL,
        Column(
            "normalised",
            BOOL,
            "Whether the outcome of the neutral wording was subtracted (pointwise mutual information).",
        ),
        CATEGORY,
        GROUP_A,
        GROUP_B,
        Column(
            "scope",
            STRING,
            "groups: it is about groups of words; words: about these words only.",
            "",
            "groups or words",
        ),
        Column("n_templates", INT, "Templates.", "templates", ">= 1"),
        Column(
            "n_fillers",
            INT,
            "Pairs of words.",
            "pairs",
            ">= 1",
            "each template has words of its own",
        ),
        Column("n_tuples", INT, "Pairs of records that were compared.", "pairs", ">= 1"),
        Column("n_duplicates", INT, "Records left out as equal to others.", "records", ">= 0"),
        Column("n_dropped", INT, "Pairs left out so that each template has all words.", "pairs", ">= 0"),
        Column("mean_a", FLOAT, "Mean of the first group: a template counts once."),
        Column("mean_b", FLOAT, "Mean of the second group."),
        Column("difference", FLOAT, "First group minus second."),
        Column("ci_low", FLOAT, "Lower end of its 95 % interval.", null_when=FEW),
        Column("ci_high", FLOAT, "Upper end.", null_when=FEW),
        Column(
            "ci_method",
            STRING,
            "How the interval was made: two_way_t, bca, percentile, newcombe or t (docs/statistics.md).",
            null_when=FEW,
        ),
        Column(
            "d_z",
            FLOAT,
            "Difference over the standard deviation of the templates' differences.",
            null_when="all templates agree",
        ),
        Column("dominance", FLOAT, "Mean sign of the templates' differences.", range="-1 .. 1"),
        Column("cliffs_delta", FLOAT, "Cliff's delta over all records of both groups.", range="-1 .. 1"),
        probability("p_templates", "p-value over templates.", TOO_FEW),
        probability("p_fillers", "p-value over pairs of words.", f"{TOO_FEW}, or {WORDS}"),
        probability("p_value", "The larger of both.", TOO_FEW),
        probability("p_adjusted", "p-value adjusted over the family.", TOO_FEW),
        Column("adjust", STRING, "How: holm or bh.", null_when=TOO_FEW),
        Column(
            "detectable",
            FLOAT,
            "Difference that would probably (80 %) have been found.",
            range="> 0",
            null_when="a difference was found, nothing varies, or there is no p-value",
        ),
        Column(
            "flags",
            STRINGS,
            "What to mind: base_rate (the groups are strings to predict, which may be unlike in frequency),"
            " raw_lens (log-probabilities before the last layer, on which no claim rests), floor, ceiling,"
            " and of any tuple frequency, identical, length or odd.",
        ),
    ),
)

AUDIT_LAYERS = Table(
    "audit_layers",
    "Runs of layers at which two groups differ, tested as clusters.",
    "one row per outcome, target, foil, category, pair of groups, unit and cluster",
    (
        METRIC,
        TARGET,
        FOIL,
        CATEGORY,
        GROUP_A,
        GROUP_B,
        Column(
            "unit",
            STRING,
            "What was resampled: templates, fillers (pairs of words); both: layers in a cluster with p at"
            " most 0.05 of the same sign in each.",
        ),
        Column("first_layer", INT, "First layer; of both, where the skew begins.", "layer index", ">= -1"),
        Column("last_layer", INT, "Last layer.", "layer index", ">= -1"),
        Column("mass", FLOAT, "Sum of t over its layers.", null_when="the unit is both"),
        probability(
            "p_value",
            "p-value of the cluster: that there is a difference somewhere, not that it begins here. Of both,"
            " the larger one of the clusters.",
        ),
        probability("p_adjusted", "Holm's, over the layered outcomes.", "the unit is not both"),
        Column("reaches_output", BOOL, "Whether it goes on to the last layer."),
        Column(
            "onset_low",
            INT,
            "5 % of bootstrap draws of templates have their first skewed layer here or before.",
            "layer index",
            ">= -1",
            "the unit is not both, or it is not the first",
        ),
        Column(
            "onset_high",
            INT,
            "95 % of the draws have it here or before.",
            "layer index",
            ">= -1",
            "the unit is not both, or it is not the first",
        ),
    ),
)

AUDIT_TUPLES = Table(
    "audit_tuples",
    "The outcome of each record at the output and at the end of each chain, from which all else is made.",
    "one row per record, target, foil and outcome",
    (
        Column("template", STRING, "Template: the unit of resampling."),
        Column("tuple", STRING, "Records that differ in the group alone."),
        Column("filler", STRING, "Words of the tuple.", null_when="the suite names none"),
        Column("category", STRING, "Category.", null_when="it has none"),
        Column("group", STRING, "Group."),
        Column("prompt_id", STRING, "The record's prompt."),
        TARGET,
        FOIL,
        METRIC,
        Column("chain", STRING, "Sampler chain.", null_when="the outcome is of the model alone"),
        Column("value", FLOAT, "The outcome.", null_when="it was not measurable"),
        Column("flags", STRINGS, "What to mind of the tuple: frequency, identical, length, odd."),
    ),
)

AUDIT_CHECKS = Table(
    "audit_checks",
    "What is wrong or doubtful about the suite, or about what the run shows of it.",
    "one row per finding",
    (
        Column("level", STRING, "error: the template was left out; warning.", range="error or warning"),
        Column("check", STRING, "Short name of what was looked for."),
        Column("template", STRING, "Template.", null_when="it is about the whole suite"),
        Column("tuple", STRING, "Tuple or words.", null_when="it is about the whole template"),
        Column("message", STRING, "What is wrong, and what to do."),
    ),
)
