"""The tables of ``elimtool map`` on pairs of heads: how alike they are, and whose loss hides whose."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, STRING, Column, Table, share

PLACES = (
    Column("layer_a", INT, "Layer of the first head.", "layer index", "0 .. layers - 1"),
    Column("head_a", INT, "The first head.", "head index", "0 .. heads - 1"),
    Column("layer_b", INT, "Layer of the second head.", "layer index", "0 .. layers - 1"),
    Column("head_b", INT, "The second head.", "head index", "0 .. heads - 1"),
    Column(
        "same_group",
        BOOL,
        "Whether they share keys and values: part of their likeness is then how the model is built.",
    ),
)
APART = "the layer shows no attention weights, or fewer than 10 queries have rows of both"
UNWRITTEN = (
    "the layer's heads cannot be read, one of them hardly varies, or passages together have fewer than 256"
    " tokens"
)

HEAD_PAIRS = Table(
    "head_pairs",
    "How alike two heads of a layer are: where they attend, what they write, into which space.",
    "one row per pair of heads of a layer",
    (
        *PLACES,
        Column(
            "js",
            FLOAT,
            "Jensen-Shannon divergence of their attention, sinks left out, mean over text queries from 32 on:"
            " 0 if they attend alike.",
            "bits",
            "0 .. 1",
            APART,
        ),
        Column(
            "js_null",
            FLOAT,
            "The same with the second head's attention at the same position of the next passage.",
            "bits",
            "0 .. 1",
            APART,
        ),
        Column(
            "cka",
            FLOAT,
            "Centred kernel alignment of what they write at the tokens of several passages, linear and"
            " debiased: 1 up to rotation, shift and scale, 0 if unrelated; noise may put it below 0.",
            "",
            "<= 1",
            UNWRITTEN,
        ),
        Column(
            "cka_null",
            FLOAT,
            "The same with what the second head writes at the same place of the next passage.",
            "",
            "<= 1",
            UNWRITTEN,
        ),
        share(
            "affinity",
            "Overlap of the spaces that they write into: squared singular values between orthonormal bases of"
            " their output maps, summed, over the root of both ranks. 1 for equal spaces.",
            "the layer's heads cannot be read",
        ),
        share(
            "affinity_null",
            "Mean of random spaces of these ranks: the root of both over the width. It is no test.",
            "as affinity",
        ),
        Column("n_queries", INT, "Queries of js.", "queries", ">= 0"),
    ),
)

FEW = "fewer than 2 sequences"

HEAD_INTERACTIONS = Table(
    "head_interactions",
    "Whether two heads hide each other's loss: both are ablated, each alone and together.",
    "one row per pair: the two best heads of a role that is present, and the best of two roles",
    (
        *PLACES,
        Column("role_a", STRING, "Role that the first head was chosen for."),
        Column("role_b", STRING, "Role that the second head was chosen for."),
        Column(
            "effect_a",
            FLOAT,
            "Rise of the mean loss when the first head is put to its mean, sinks left alone: tokens of the"
            " repeated half, but for the first.",
            "nats",
        ),
        Column("effect_b", FLOAT, "The same of the second head.", "nats"),
        Column("effect_both", FLOAT, "The same of both together.", "nats"),
        Column(
            "interaction",
            FLOAT,
            "effect_both less effect_a and effect_b: above 0, each hides the other's loss; below 0, they are"
            " one path, which is cut once.",
            "nats",
        ),
        Column("low", FLOAT, "Lower end of its 95 % interval over sequences.", "nats", null_when=FEW),
        Column("high", FLOAT, "Its upper end.", "nats", null_when=FEW),
        Column(
            "null_low",
            FLOAT,
            "2.5 % quantile of the interactions of up to 20 random pairs of the same two layers, on the first"
            " 8 sequences.",
            "nats",
            null_when="there is no other pair",
        ),
        Column("null_high", FLOAT, "Their 97.5 % quantile.", "nats", null_when="there is no other pair"),
        Column("n_null", INT, "Random pairs.", "pairs", ">= 0"),
        Column("n_sequences", INT, "Sequences.", "sequences", ">= 0"),
        Column("probe", STRING, "What they were measured on: repeats."),
    ),
)
