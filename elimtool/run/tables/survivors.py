"""The tables of survivors: what would follow each, and how many different choices they are."""

from __future__ import annotations

from elimtool.run.columns import (
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    AskedBy,
    Column,
    Table,
    probability,
    share,
)
from elimtool.run.tables.sampling import CHAIN

NOBODY_LEFT = "bans left no token"

BY_FUTURES = AskedBy("futures", "say with it how many survivors to compare, such as 8")

SURVIVORS = Table(
    "survivors",
    "The first survivors of each chain, and what the model would write after each.",
    "one row per prompt, position, chain and survivor",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        Column("place", INT, "Place among the survivors by probability.", unit="place", range=">= 1"),
        Column("token", STRING, "Its text."),
        Column("token_id", INT, "Its vocabulary index.", unit="token index", range=">= 0"),
        probability("prob", "Its probability after the chain."),
        Column(
            "future_entropy",
            FLOAT,
            "Entropy of the model's output after it, where futures are compared.",
            unit="nats",
            range=">= 0",
        ),
        Column("future_top", STRING, "The most probable token there."),
    ),
    asked_by=BY_FUTURES,
    of_prompt=True,
    may_be_empty=True,
)

SURVIVOR_PAIRS = Table(
    "survivor_pairs",
    "What the first survivors of each chain are to each other.",
    "one row per prompt, position, chain and ordered pair of survivors",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        Column("token_a", STRING, "One survivor."),
        Column("token_a_id", INT, "Its vocabulary index.", unit="token index", range=">= 0"),
        Column("token_b", STRING, "Another one."),
        Column("token_b_id", INT, "Its vocabulary index.", unit="token index", range=">= 0"),
        share(
            "same_future",
            "Likeness of what follows them: 1 less the Jensen-Shannon divergence (bits) of the outputs after"
            " each.",
        ),
        share(
            "same_future_null",
            "Median likeness of the futures of tokens that are likely in other text, put in their place.",
        ),
        Column(
            "cosine",
            FLOAT,
            "Cosine of their rows of the unembedding (with the final norm's gain), without the mean row.",
            unit="cosine",
            range="-1 .. 1",
        ),
        Column(
            "leads_to",
            FLOAT,
            "How many times as probable the other one is once the first is written.",
            unit="ratio",
            range=">= 0",
        ),
        Column(
            "kind",
            STRING,
            "Same word: equal but for case and spaces. Substitute: same_future of at least 0.5. Successor:"
            " the other one is more probable after the first than in its place, and above 0.05.",
            range="same word, substitute, successor, other",
        ),
    ),
    asked_by=BY_FUTURES,
    of_prompt=True,
    may_be_empty=True,
)

SURVIVOR_SETS = Table(
    "survivor_sets",
    "How many different choices are left before each chain and after each of its stages.",
    "one row per prompt, position, chain, and stage or none",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        Column(
            "stage_index",
            INT,
            "Place of the stage in its chain, from 0.",
            unit="stage index",
            range=">= 0",
            null_when="the row is of the output before the chain",
        ),
        Column("stage", STRING, "Name of the stage.", null_when="the row is of the output before the chain"),
        Column("n", INT, "Survivors.", unit="tokens", range=">= 0"),
        Column(
            "n_read",
            INT,
            "Of these, the most probable ones, which are compared.",
            unit="tokens",
            range=">= 0",
        ),
        share("mass_read", "Probability that they hold among the survivors."),
        Column(
            "hill1",
            FLOAT,
            "Effective number of them: the exponential of the entropy of their shares.",
            unit="tokens",
            range="1 .. n_read",
            null_when=NOBODY_LEFT,
        ),
        Column(
            "futures",
            FLOAT,
            "Effective number of different ones: the same with likeness counted (Leinster and Cobbold 2012).",
            unit="tokens",
            range="1 .. hill1",
            null_when=NOBODY_LEFT,
        ),
    ),
    asked_by=BY_FUTURES,
    of_prompt=True,
)
