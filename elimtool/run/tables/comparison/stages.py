"""The tables of sampling in a comparison: what each stage removes on the two sides, and what is left."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, STRING, STRINGS, TARGET, Column, Table, probability
from elimtool.run.tables.comparison.sides import CHAIN, PAIR_ID, STAGE, TOKENS, compared, sides

_PLACE = sides(
    Column("stage_index", INT, "Place of the stage in its chain, from 0.", unit="stage index", range=">= 0")
)
_N_AFTER = compared(Column("n_after", INT, "Tokens alive after the stage.", unit="tokens", range=">= 1"))
NOT_CHAINS = "the sides are not two chains of one output"

STAGE_DIFFERENCES = Table(
    "stage_differences",
    "Whether each target survives each stage on the two sides, and by how much.",
    "one row per pair, chain, stage and target that both sides followed",
    (
        PAIR_ID,
        CHAIN,
        STAGE,
        *_PLACE,
        TARGET,
        *TOKENS,
        *sides(Column("alive", BOOL, "Whether the target is alive after the stage.")),
        *compared(
            probability(
                "prob", "Probability of the target after the stage, renormalised; 0 once it is removed."
            )
        ),
        *compared(
            Column(
                "margin",
                FLOAT,
                "How far the target is from the stage's cut, positive where it survives.",
                unit="the stage's own",
                null_when="the stage is off, by nature removes nothing, or the target was gone before",
            )
        ),
        *_N_AFTER,
    ),
)

SAMPLING_DIFFERENCES = Table(
    "sampling_differences",
    "What each stage of a chain removes on the two sides.",
    "one row per pair, chain and stage of either side",
    (
        PAIR_ID,
        CHAIN,
        STAGE,
        *_PLACE,
        *sides(Column("active", BOOL, "Whether the stage's parameters turn it on.")),
        *sides(Column("params", STRING, "The stage's parameters, as a JSON text.")),
        *_N_AFTER,
        *compared(
            probability(
                "mass_pruned", "Probability that the stage removes from the distribution that it was given."
            )
        ),
        *compared(
            Column(
                "entropy_after", FLOAT, "Shannon entropy of what the stage leaves.", unit="nats", range=">= 0"
            )
        ),
    ),
)

SURVIVOR_DIFFERENCES = Table(
    "survivor_differences",
    "What a chain leaves to draw from on the two sides.",
    "one row per pair and chain",
    (
        PAIR_ID,
        CHAIN,
        *compared(Column("n_survivors", INT, "Tokens that the chain leaves.", unit="tokens", range=">= 1")),
        *compared(
            Column("entropy", FLOAT, "Shannon entropy of what the chain leaves.", unit="nats", range=">= 0")
        ),
        *sides(Column("top_token", STRING, "Most probable token that the chain leaves.")),
        *compared(probability("top_prob", "Its probability.")),
        probability(
            "total_variation",
            "Total variation distance of what the two chains leave: half the sum of the absolute differences"
            " of the probabilities.",
            null_when=NOT_CHAINS,
        ),
        *sides(
            Column(
                "n_only",
                INT,
                "Tokens that survive only this chain.",
                unit="tokens",
                range=">= 0",
                null_when=NOT_CHAINS,
            )
        ),
        *sides(
            Column(
                "only",
                STRINGS,
                "Texts of the five such tokens that are most probable to the model.",
                null_when=NOT_CHAINS,
            )
        ),
    ),
)
