"""The table of repetition: how well copies of a text predict the next one, beside other text."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    INTS,
    PROMPT_ID,
    AskedBy,
    Column,
    Table,
    probability,
    rank,
    share,
)

RESONANCE = Table(
    "resonance",
    "How far a model predicts the next copy of a text that is repeated, beside other text of that length.",
    "one row per prompt and number of copies",
    (
        PROMPT_ID,
        Column(
            "in_chat",
            BOOL,
            "Whether the copies are a chat's message, and the next one is looked for in the reply.",
        ),
        Column(
            "copies", INT, "Copies that stand before the one that is predicted.", unit="copies", range=">= 1"
        ),
        Column(
            "token_ids",
            INTS,
            "The repeated tokens, the same in every copy.",
            unit="token ids",
            null_when="the run was made before it had this column",
        ),
        probability("tp", "Mean probability of the next copy's tokens (TP of Xu et al. 2022)."),
        probability("tp_control", "The same after as many other units of as many tokens, mean of the draws."),
        probability("tp_control_low", "Quantile 0.025 of these draws."),
        probability("tp_control_high", "Quantile 0.975 of these draws."),
        share(
            "ip",
            "Share of the tokens that are more probable than in the first copy (IP).",
            "the copies are a chat's message, or the unit is one token with nothing before it",
        ),
        share("wr", "Share of the tokens that are the model's most probable ones (WR)."),
        rank("first_rank", "Rank of the unit's first token after the copies."),
        probability("first_prob", "Its probability."),
        Column("entropy", FLOAT, "Entropy of the output after the copies.", unit="nats", range=">= 0"),
        Column("gain", FLOAT, "Log-odds of tp less those of tp_control.", unit="nats"),
        rank(
            "reply_control_rank",
            "Rank of the unit's first token as the first word of a reply to another message.",
            "the copies are a plain text",
        ),
    ),
    asked_by=AskedBy("repeat", "say with it how many copies, such as 16"),
    of_prompt=True,
)
