"""The tables of ``elimtool coverage`` on doubt: conformal settings, calibration, abstention."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, STRING, Column, Table, probability, share

OUTPUT = "the row is of the model's output, before any stage"
FEW = "there are fewer than two prompts or texts"
UNSIZED = "setting is null, or the run has no table falloff and the sampler is not top_k"
CHAIN = Column("chain", STRING, "Name of the sampler chain.", null_when=OUTPUT)
STAGE_INDEX = Column("stage_index", INT, "Place of the stage in its chain, from 0.", null_when=OUTPUT)
STAGE = Column(
    "stage", STRING, "Name of the stage; the last one's row is of the whole chain.", null_when=OUTPUT
)

CONFORMAL = Table(
    "conformal",
    "The strictest setting at which a stage, alone, keeps the right token as often as is asked for.",
    "one row per sampler and error rate",
    (
        share("alpha", "Share of places where the right token may be lost."),
        Column("sampler", STRING, "Stage that is applied alone.", range="top_p, top_k, min_p"),
        Column(
            "setting",
            FLOAT,
            "The setting: top_p just above, top_k and min_p at it. On new records like these, it keeps the"
            " right token with a probability of at least 1 - alpha, on average over sets of n records.",
            null_when="n is too small for alpha, or the model gives too many right tokens probability 0",
        ),
        Column("n", INT, "Prompts or texts, one position each.", unit="prompts", range=">= 1"),
        share(
            "coverage_low",
            "Lower end of the range that holds 95 % of the coverages of single sets of n records: the Beta"
            " distribution with n + 1 - l and l, l = floor((n + 1) alpha).",
            "setting is null",
        ),
        share("coverage_high", "Upper end; more, where scores are equal.", "setting is null"),
        share("kept", "Share of these very records that are kept at the setting.", "setting is null"),
        Column(
            "mean_size",
            FLOAT,
            "Mean number of tokens that the setting keeps at such places: k of top_k, else from the table"
            " falloff, within the bounds beside it.",
            unit="tokens",
            range=">= 1",
            null_when=UNSIZED,
        ),
        Column(
            "size_low",
            FLOAT,
            "Lower bound of that mean: the falloff is known in steps of distance.",
            unit="tokens",
            range=">= 0",
            null_when=UNSIZED,
        ),
        Column("size_high", FLOAT, "Upper bound.", unit="tokens", range=">= 1", null_when=UNSIZED),
    ),
)

_CALIBRATED = (CHAIN, STAGE_INDEX, STAGE)

CALIBRATION = Table(
    "calibration",
    "Whether the first choice is right as often as it claims, and whether a chain kills more right tokens"
    " than the model expects, before and after each stage.",
    "one row per subset, and chain and stage; the model's output first",
    (
        *_CALIBRATED,
        Column(
            "subset",
            STRING,
            "Places that count: all, or those whose output has a collision probability (sum of squares) below"
            " 0.5 (spread) or from there (peaked).",
            range="all, spread, peaked",
        ),
        Column("n", INT, "Places with one right token.", unit="places", range=">= 1"),
        Column("n_units", INT, "Prompts or texts that they are in.", unit="prompts", range=">= 1"),
        share("accuracy", "Share of places where the most probable token is the right one."),
        probability("confidence", "Mean probability of the most probable token."),
        share(
            "ece",
            "Expected calibration error: over bins of equal count, the mean absolute difference of confidence"
            " and accuracy.",
        ),
        share(
            "ece_null",
            "Mean of the same where labels are drawn with the stated probabilities: what a calibrated model"
            " of this confidence would show.",
        ),
        share("ece_null_95", "95th percentile of that."),
        Column("brier", FLOAT, "Mean squared difference of confidence and being right.", range="0 .. 1"),
        share("gold_pruned", "Share of places where the right token is removed by then.", OUTPUT),
        probability(
            "expected",
            "Mean probability, in the model's output, of the tokens removed by then: the share that the model"
            " itself expects to be lost.",
            f"{OUTPUT}, or the run is of an earlier elimtool",
        ),
        Column(
            "excess",
            FLOAT,
            "Over-elimination: gold_pruned minus expected, mean over prompts or texts. 0 where the model is"
            " calibrated, whatever the chain.",
            unit="share",
            range="-1 .. 1",
            null_when="expected is null",
        ),
        Column(
            "ci_low",
            FLOAT,
            "Lower end of its 95 % interval, Student's t over prompts or texts.",
            unit="share",
            null_when=f"expected is null, or {FEW}",
        ),
        Column("ci_high", FLOAT, "Upper end.", unit="share", null_when=f"expected is null, or {FEW}"),
        probability(
            "p_value",
            "Two-sided p-value of an excess this far from 0: sign flips of prompts or texts.",
            "expected is null, or there are fewer than 6 prompts or texts",
        ),
    ),
)

ALONE = "the row is of the reference, or no tuple has a prompt of both groups"
ABSTENTION = Table(
    "abstention",
    "How probable it is that the model says that it does not know, against matched prompts with an answer.",
    "one row per group of prompts with the role abstain",
    (
        Column("group", STRING, "Group of the prompts.", null_when="their records give none"),
        Column("n_prompts", INT, "Prompts of the group.", unit="prompts", range=">= 1"),
        probability(
            "mass",
            "Probability that one of the phrases follows, of which none begins another; mean over prompts."
            " Alone it is a base rate.",
        ),
        Column(
            "ci_low",
            FLOAT,
            "Lower end of its 95 % interval, Student's t over prompts.",
            unit="probability",
            null_when="there is one prompt",
        ),
        Column("ci_high", FLOAT, "Upper end.", unit="probability", null_when="there is one prompt"),
        Column(
            "reference",
            STRING,
            "Group that it is set against, tuple by tuple: 'answerable', else the first by name.",
            null_when=ALONE,
        ),
        Column("n_tuples", INT, "Tuples with both groups.", unit="tuples", range=">= 1", null_when=ALONE),
        Column(
            "difference",
            FLOAT,
            "Mass minus that of the reference, mean over tuples.",
            unit="probability",
            range="-1 .. 1",
            null_when=ALONE,
        ),
        Column(
            "difference_low",
            FLOAT,
            "Lower end of its 95 % interval, Student's t over tuples.",
            unit="probability",
            null_when=f"{ALONE}, or there is one tuple",
        ),
        Column(
            "difference_high",
            FLOAT,
            "Upper end.",
            unit="probability",
            null_when=f"{ALONE}, or there is one tuple",
        ),
        probability(
            "p_value",
            "Two-sided p-value of the difference: sign flips of tuples.",
            f"{ALONE}, or there are fewer than 6 tuples",
        ),
    ),
)

CALIBRATION_BINS = Table(
    "calibration_bins",
    "The bins of a reliability diagram, before and after each stage.",
    "one row per chain, stage and bin of equal count",
    (
        *_CALIBRATED,
        Column("bin", INT, "Number of the bin, from 0, by rising confidence.", range="0 .. 9"),
        Column("n", INT, "Places in it.", unit="places", range=">= 1"),
        probability("confidence", "Mean probability of the most probable token."),
        share("accuracy", "Share of places where it is the right one."),
        share("ci_low", "Lower end of Wilson's 95 % interval of accuracy."),
        share("ci_high", "Upper end."),
    ),
)
