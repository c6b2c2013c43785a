"""The table of associations: how well concepts are placed below the output, beside sets as frequent."""

from __future__ import annotations

from elimtool.run.columns import (
    AFTER_LAYER,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    Column,
    Table,
    probability,
    rank,
    share,
)
from elimtool.run.tables.concepts import CONCEPTS
from elimtool.run.tables.lens import LENS_NAME

ALL_SAID = "every token of the concept stands in the prompt"
UNJUDGED = f"{ALL_SAID}, or there are fewer than 19 control sets (none without a fitted lens)"

ASSOCIATIONS = Table(
    "associations",
    "How well the words of a concept are placed after each layer, beside sets of words as frequent.",
    "one row per prompt, position, concept and layer",
    (
        PROMPT_ID,
        POSITION,
        AFTER_LAYER,
        LENS_NAME,
        Column("concept", STRING, "Name of the concept, a set of tokens."),
        Column(
            "n_tokens",
            INT,
            "Tokens of the set that do not stand in the prompt up to the position.",
            unit="tokens",
            range=">= 0",
        ),
        Column(
            "n_said",
            INT,
            "Tokens of the set that do, in whatever case and with or without a space; they are left out, as"
            " the model sees the word itself.",
            unit="tokens",
            range=">= 0",
        ),
        Column("best_token", STRING, "The one of them with the largest logit.", null_when=ALL_SAID),
        rank("best_rank", "Its rank, the least of the set.", ALL_SAID),
        probability(
            "mass",
            "Probability of these tokens together. The raw lens is over-confident before the last layers.",
            ALL_SAID,
        ),
        Column(
            "n_controls",
            INT,
            "Control sets: as many tokens, the nearest in the log of their mean probability on the reference"
            " text of the lens, none of them in the prompt.",
            unit="sets",
            range="0 .. 99",
        ),
        rank("control_rank", "Best rank that half of the control sets reach.", UNJUDGED),
        rank("control_rank_low", "Best rank that 5 % of the control sets reach.", UNJUDGED),
        rank("control_rank_high", "Best rank that 95 % of the control sets reach.", UNJUDGED),
        share(
            "p_value",
            "Share of the control sets and the concept whose best rank is at least as good.",
            f"{UNJUDGED}, or the row is of the embedding",
        ),
        share(
            "p_adjusted",
            "Corrected for all layers: share of these sets that are as far out at some layer, in standard"
            " deviations of the layer (maxT of Westfall and Young 1993).",
            f"{UNJUDGED}, or the row is of the embedding",
        ),
        Column(
            "surfaces_at",
            INT,
            "First of three layers in a row with a p-value up to 0.05.",
            unit="layer index",
            range="0 .. layers - 1",
            null_when=f"there is none, {UNJUDGED}",
        ),
        share("surface_chance", "Share of the control sets that surface so somewhere.", UNJUDGED),
    ),
    asked_by=CONCEPTS.asked_by,
)
