"""The tables of layers: where two residual streams, and their predictions, begin to differ."""

from __future__ import annotations

from dataclasses import replace

from elimtool.run.columns import (
    AFTER_LAYER,
    BOOL,
    FLOAT,
    INT,
    STRING,
    TARGET,
    Column,
    Table,
    probability,
    rank,
    share,
)
from elimtool.run.tables.attention import ATTENTION_LAYERS
from elimtool.run.tables.comparison.sides import EITHER, PAIR_ID, RANK_RATIO, TOKENS, compared, sides

OTHER_LENS = "the layer is before the last and the sides are read through different lenses"
OUTPUT_ALONE = "the sides have different depths: the row is of the two outputs"
LAST_ALONE = replace(AFTER_LAYER, null_when=OUTPUT_ALONE)

LENS_DIFFERENCES = Table(
    "lens_differences",
    "Rank and probability of each target after each block on the two sides.",
    "one row per pair, layer and target or foil that both sides followed",
    (
        PAIR_ID,
        LAST_ALONE,
        TARGET,
        Column("is_foil", BOOL, "Whether the row is of a foil."),
        *TOKENS,
        *sides(Column("lens", STRING, "Lens that the layer is read through.")),
        *sides(rank("rank", "Place of the token among all tokens.")),
        replace(RANK_RATIO, null_when=f"{EITHER}, or {OTHER_LENS}"),
        *compared(
            Column("logprob", FLOAT, "Natural logarithm of prob.", unit="nats", range="<= 0"),
            apart=OTHER_LENS,
        ),
        *compared(
            probability("prob", "Probability of the token in the lens distribution."), apart=OTHER_LENS
        ),
    ),
)

_UNREAD = "the table that holds it was not filled"

CARRIED_LAYERS = ("null_mass", "sink_norm_share", "mixing", "below_mean_mass", "context_90")
"""Columns of ``attention_layers`` that say what rows carry, give to nothing, and how far they reach."""
_COLUMNS = {column.name: column for column in ATTENTION_LAYERS.columns}


def _looked(name: str) -> Column:
    """Return a column of a layer's attention, which the embedding has not."""
    own = _COLUMNS[name]
    return replace(own, null_when=f"{own.null_when}, {_UNREAD}, or the layer is the embedding")


LAYER_DIFFERENCES = Table(
    "layer_differences",
    "How decided each layer is on the two sides, and how widely it attends, whatever the targets.",
    "one row per pair and layer",
    (
        PAIR_ID,
        LAST_ALONE,
        *sides(Column("top_token", STRING, "Most probable token of the layer.", null_when=_UNREAD)),
        Column(
            "top_changed",
            BOOL,
            "Whether these tokens differ, as texts.",
            null_when=f"{EITHER}, or {OTHER_LENS}",
        ),
        *compared(probability("top_prob", "Its probability."), apart=OTHER_LENS),
        *compared(
            Column(
                "entropy",
                FLOAT,
                "Shannon entropy of the layer's distribution.",
                unit="nats",
                range=">= 0",
                null_when=_UNREAD,
            ),
            apart=OTHER_LENS,
        ),
        *compared(
            Column(
                "nucleus_size",
                INT,
                "Tokens in the layer's 0.9 nucleus.",
                unit="tokens",
                range="1 .. vocabulary",
                null_when=_UNREAD,
            ),
            apart=OTHER_LENS,
        ),
        *compared(
            Column(
                "kl_to_final",
                FLOAT,
                "Divergence of the layer's distribution from the side's own output.",
                unit="nats",
                range=">= 0",
                null_when=_UNREAD,
            ),
            apart=OTHER_LENS,
        ),
        *compared(
            Column(
                "attention_entropy",
                FLOAT,
                "Shannon entropy of the query's attention row, mean over heads.",
                unit="nats",
                range=">= 0",
                null_when=f"{_UNREAD}, or the layer is the embedding",
            )
        ),
        *compared(
            share(
                "sink_mass",
                "Share of attention on the sink set, mean over heads.",
                null_when=f"{_UNREAD}, or there is no sink set, or the layer is the embedding",
            )
        ),
        *compared(
            share(
                "eliminated_frac",
                "Share of (head, key) pairs below the elimination threshold.",
                null_when=f"{_UNREAD}, or null in attention_layers, or the layer is the embedding",
            )
        ),
        *(column for one in map(_looked, CARRIED_LAYERS) for column in compared(one)),
    ),
)

DIVERGENCE = Table(
    "divergence",
    "How far the two sides are apart after each block, at the position compared. Filled where models are"
    " run, not from the tables of two runs.",
    "one row per pair and layer",
    (
        PAIR_ID,
        LAST_ALONE,
        Column(
            "cosine_distance",
            FLOAT,
            "1 minus the cosine of the two residual streams.",
            unit="ratio",
            range="0 .. 2",
            null_when="the models' widths differ, or a residual stream is zero",
        ),
        Column(
            "relative_l2",
            FLOAT,
            "Euclidean distance of the two residual streams over the mean of their lengths.",
            unit="ratio",
            range="0 .. 2",
            null_when="the models' widths differ, or both residual streams are zero",
        ),
        Column(
            "js",
            FLOAT,
            "Jensen-Shannon divergence (base 2) of the two distributions, read through the lens.",
            unit="bits",
            range="0 .. 1",
            null_when=f"the vocabularies differ, or {OTHER_LENS}",
        ),
        share(
            "jaccard",
            "Overlap of the two 0.9 nuclei: tokens in both over tokens in either.",
            null_when="js is null",
        ),
        Column(
            "band",
            FLOAT,
            "The js that 95 % of the controls stay below after this block.",
            unit="bits",
            range="0 .. 1",
            null_when="there are no controls, or js is null",
        ),
        Column("beyond", BOOL, "Whether js is above the band.", null_when="band is null"),
    ),
)
