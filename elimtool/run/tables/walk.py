"""The tables of a decoding walk: the tokens a model wrote through a chain, and each step's ledger."""

from __future__ import annotations

from elimtool.run.columns import INT, POSITION, PROMPT_ID, STRING, Column, Table, probability, rank
from elimtool.run.tables.sampling import SAMPLING
from elimtool.run.tables.sequences import cost

STEP = Column("step", INT, "Number of the written token, from 0.", unit="tokens", range=">= 0")
CHAIN = Column(
    "chain", STRING, "Name of the sampler chain that was walked through; run.json holds it in full."
)
ALL_SURVIVED = "the chain removed no token"

_LEDGER = ("stage_index", "stage", "active", "params", "n_before", "n_after", "mass_pruned", "threshold")
_REST = ("entropy_before", "entropy_after", "notes")

WALK = Table(
    "walk",
    "The tokens that the model wrote through a chain, and what almost survived at each step.",
    "one row per prompt and written token",
    (
        PROMPT_ID,
        STEP,
        POSITION,
        CHAIN,
        Column("token", STRING, "Text of the token that was drawn."),
        Column("token_id", INT, "Vocabulary index of the token that was drawn.", unit="token id"),
        probability("prob", "Probability with which it was drawn: what the chain leaves, renormalised."),
        probability("model_prob", "Its probability in the model's output, before any stage."),
        rank("model_rank", "Its rank in the model's output."),
        Column("n_survivors", INT, "Tokens that the chain leaves.", unit="tokens", range=">= 1"),
        Column(
            "almost",
            STRING,
            "Text of the token that was most probable to the model among those that the chain removed.",
            null_when=ALL_SURVIVED,
        ),
        Column("almost_id", INT, "Vocabulary index of that token.", unit="token id", null_when=ALL_SURVIVED),
        probability(
            "almost_prob", "Probability of that token in the model's output.", null_when=ALL_SURVIVED
        ),
        Column(
            "almost_why",
            STRING,
            "One sentence: which stage removed that token, and why.",
            null_when=ALL_SURVIVED,
        ),
        Column(
            "runner_up", STRING, "Text of the most probable other token in the model's output, cut or not."
        ),
        Column("runner_up_id", INT, "Vocabulary index of that token.", unit="token id"),
        probability("runner_up_prob", "Probability of that token in the model's output."),
        Column(
            "runner_up_cut",
            STRING,
            "Name of the stage that removed that token.",
            null_when="it survived the chain",
        ),
        probability(
            "runner_up_left",
            "Probability of that token after the chain; 0 of one that survived where a stage has set another"
            " far above it: it could not have been drawn.",
        ),
    ),
    of_prompt=True,
)

_SHARED = {column.name: column for column in SAMPLING.columns}

WALK_STAGES = Table(
    "walk_stages",
    "What each stage removes at each step of a walk.",
    "one row per prompt, written token (and the step at which a chain that leaves none ends the walk), stage",
    (PROMPT_ID, STEP, POSITION, CHAIN, *(_SHARED[name] for name in (*_LEDGER, *_REST))),
    of_prompt=True,
)

WALK_REWINDS = Table(
    "walk_rewinds",
    "What was taken back from a walk: the text had come to hold a banned phrase (KoboldCpp's anti-slop).",
    "one row per prompt and time that the text went back",
    (
        PROMPT_ID,
        Column("rewind", INT, "Number of the time, from 0.", unit="times", range=">= 0"),
        Column(
            "step",
            INT,
            "Step to which the text goes back, of the token in which the phrase begins.",
            unit="tokens",
            range=">= 0",
        ),
        CHAIN,
        Column("stage", STRING, "Name of the ban."),
        Column("why", STRING, "One sentence: which phrase, how far the text goes back, what is banned."),
        Column("n_tokens", INT, "Tokens that are taken back.", unit="tokens", range=">= 1"),
        Column("text", STRING, "Their text."),
        Column("token", STRING, "Text of the first of them, which is banned at this step from now on."),
        Column("token_id", INT, "Vocabulary index of that token.", unit="token id"),
        Column(
            "n_drawn",
            INT,
            "Tokens drawn so far, those that were taken back among them: each counts as one of those that may"
            " be written.",
            unit="tokens",
            range=">= 1",
        ),
        *cost(),
    ),
    of_prompt=True,
)
