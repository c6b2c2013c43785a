"""The tables of verdicts in a comparison: what became of each target on the two sides, and what flipped."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, STRING, TARGET, Column, Table, probability, rank
from elimtool.run.tables.comparison.sides import EITHER, PAIR_ID, RANK_RATIO, TOKENS, compared, sides
from elimtool.run.tables.verdicts import NEVER

VERDICT_DIFFERENCES = Table(
    "verdict_differences",
    "What became of each target on the two sides.",
    "one row per pair and target that both sides followed",
    (
        PAIR_ID,
        TARGET,
        *TOKENS,
        *sides(
            Column(
                "outcome",
                STRING,
                "survived, sampler_eliminated, outranked, late_eliminated or never_surfaced, as in verdicts.",
            )
        ),
        Column("changed", BOOL, "Whether the two outcomes differ.", null_when=EITHER),
        *sides(Column("regime", STRING, "Regime of the prediction.", null_when="there is no fitted lens")),
        *sides(
            Column(
                "entry_layer",
                INT,
                "First block after which the target is in the top-10.",
                unit="layer index",
                null_when=NEVER,
            )
        ),
        *sides(
            Column(
                "commit_layer",
                INT,
                "First block from which on it stays there.",
                unit="layer index",
                null_when="it is not there at the end",
            )
        ),
        *sides(
            Column(
                "lost_layer",
                INT,
                "First block after which it is out for good.",
                unit="layer index",
                null_when="it never was in, or is at the end",
            )
        ),
        *sides(rank("best_rank", "Best rank after any block.")),
        *sides(rank("final_rank", "Rank in the output.")),
        RANK_RATIO,
        *compared(probability("final_prob", "Probability in the output.")),
        *compared(
            Column(
                "final_logprob",
                FLOAT,
                "Its natural logarithm.",
                unit="nats",
                range="<= 0",
                null_when="the probability is 0",
            )
        ),
        *sides(
            Column(
                "cut_chain", STRING, "First chain that removes the target.", null_when="no chain removes it"
            )
        ),
        *sides(Column("cut_stage", STRING, "Stage of that chain.", null_when="no chain removes it")),
        *sides(
            Column(
                "eliminator",
                STRING,
                "Head or MLP that lowers the target's logit most.",
                null_when="none does, or components were not measured",
            )
        ),
        *compared(
            Column(
                "eliminator_dla",
                FLOAT,
                "Its centred logit attribution.",
                unit="logits",
                range="< 0",
                null_when="there is no eliminator",
            )
        ),
        *sides(
            Column(
                "promoter",
                STRING,
                "Head or MLP that raises the target's logit most.",
                null_when="none does, or components were not measured",
            )
        ),
        *compared(
            Column(
                "promoter_dla",
                FLOAT,
                "Its centred logit attribution.",
                unit="logits",
                range="> 0",
                null_when="there is no promoter",
            )
        ),
    ),
)

FLIPS = Table(
    "flips",
    "Tokens that are eliminated on one side only, with the layer or the stage that does it.",
    "one row per pair, token and place where it is eliminated on one side only",
    (
        PAIR_ID,
        Column("token", STRING, "Text of the token; a target as it was asked for."),
        *TOKENS,
        Column("is_target", BOOL, "Whether it is a target that both sides followed."),
        Column("eliminated_in", STRING, "Side on which it is eliminated.", range="a, b"),
        Column(
            "where",
            STRING,
            "What eliminates it: layer (it is lost for good after a block), stage (a sampler stage removes"
            " it) or output (it is outside the output's 0.95 nucleus, with no layer to name).",
            range="layer, stage, output",
        ),
        Column(
            "layer",
            INT,
            "First block after which it is lost for good: out of the top-10 or, where two prompts are"
            " compared, out of this side's 0.9 nucleus and in the other's.",
            unit="layer index",
            range="-1 .. layers - 1",
            null_when="where is not 'layer'",
        ),
        Column("chain", STRING, "Chain that removes it.", null_when="where is not 'stage'"),
        Column("stage", STRING, "Stage that removes it.", null_when="where is not 'stage'"),
        *sides(probability("prob", "Probability in the output.")),
        *sides(rank("rank", "Rank in the output.")),
    ),
)
