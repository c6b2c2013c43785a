"""The table of what two prompts call below the output: tokens, and concepts beside sets as frequent."""

from __future__ import annotations

from elimtool.run.columns import AFTER_LAYER, FLOAT, INT, STRING, Column, Table, probability, share
from elimtool.run.tables.comparison.sides import PAIR_ID
from elimtool.run.tables.lens import LENS_NAME

OF_TOKEN = "the row is of a token"
OF_CONCEPT = "the row is of a concept"
ALL_SAID = "every token of the concept stands in one of the prompts"
UNJUDGED = f"{OF_TOKEN}, {ALL_SAID}, or there are fewer than 19 control sets (none without a fitted lens)"

ASSOCIATION_CONTRAST = Table(
    "association_contrast",
    "What two prompts call after each layer: the tokens that part them most, and concepts beside sets as"
    " frequent.",
    "one row per pair, layer, and token or concept",
    (
        PAIR_ID,
        AFTER_LAYER,
        LENS_NAME,
        Column("token", STRING, "A token, of the 20 with the largest terms.", null_when=OF_CONCEPT),
        Column(
            "token_id", INT, "Its index.", unit="token id", range="0 .. vocabulary - 1", null_when=OF_CONCEPT
        ),
        Column("concept", STRING, "Name of the concept.", null_when=OF_TOKEN),
        Column(
            "n_tokens",
            INT,
            "Tokens of the concept that stand in neither prompt up to the position.",
            unit="tokens",
            range=">= 0",
            null_when=OF_TOKEN,
        ),
        probability(
            "prob_a", "Probability in A of the token, or of the concept's tokens together.", ALL_SAID
        ),
        probability("prob_b", "The same in B.", ALL_SAID),
        Column(
            "difference",
            FLOAT,
            "ln prob_b minus ln prob_a.",
            unit="nats",
            null_when=ALL_SAID,
        ),
        Column(
            "term",
            FLOAT,
            "(prob_b - prob_a) times the difference: what the token adds to Jeffreys' divergence of the two"
            " distributions, in nats.",
            unit="nats",
            range=">= 0",
            null_when=OF_CONCEPT,
        ),
        share("term_share", "The term as a share of the divergence, of which it is a summand.", OF_CONCEPT),
        Column(
            "n_controls",
            INT,
            "Control sets: as many tokens, about as frequent, none of them in either prompt.",
            unit="sets",
            range="0 .. 99",
            null_when=OF_TOKEN,
        ),
        Column(
            "difference_low", FLOAT, "Quantile 0.025 of their differences.", unit="nats", null_when=UNJUDGED
        ),
        Column("difference_high", FLOAT, "Quantile 0.975 of them.", unit="nats", null_when=UNJUDGED),
        share(
            "p_value",
            "Share of the control sets and the concept whose difference is at least as large, up or down.",
            f"{UNJUDGED}, or the row is of the embedding",
        ),
        share(
            "p_adjusted",
            "Corrected for all layers: share of these sets that are as far out at some layer, in standard"
            " deviations of the layer (maxT of Westfall and Young 1993).",
            f"{UNJUDGED}, or the row is of the embedding",
        ),
    ),
)
