"""The tables of sequences: a target's tokens one after the other through sampler chains."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    PROMPT_ID,
    STRING,
    AskedBy,
    Column,
    Table,
    probability,
    rank,
)
from elimtool.run.tables.sampling import CHAIN, SAMPLING

ALIVE = "the chain leaves every token of it"
LEFT = "the chain leaves the token"
STAYS = "no ban that takes texts back (KoboldCpp's of phrases) is what removes it"
IMPOSSIBLE = "the chain removes one of its tokens (or the probability underflows)"

TARGET = Column("target", STRING, "Target or foil as the user asked for it.")
IS_FOIL = Column("is_foil", BOOL, "Whether it is a foil.")
STEP = Column("step", INT, "Number of its token, from 0.", unit="tokens", range=">= 0")
TOKEN = Column("token", STRING, "Text of the token.")
TOKEN_ID = Column("token_id", INT, "Vocabulary index of the token.", unit="token id")

_MEAN = " Of a stage that acts by chance, the mean over its draw."

BY_THROUGH = AskedBy("through", "name a sampler chain with it, such as llama.cpp")


def cost(null_when: str = "") -> tuple[Column, ...]:
    """Return the columns of what it costs to ban the token in which a phrase begins, not the phrase."""
    first = "Probability with which the chain draws that token: what is banned to keep the phrase out."
    rest = (
        "Part of `back_prob` that would not have led to the phrase: back_prob * (1 - p of the phrase's other"
        " tokens after that one). Good continuations that are lost with it; 0 where the phrase is one token."
        " Other spellings of the phrase count among the good ones, so it is the most that it can be."
    )
    return probability("back_prob", first, null_when), probability("collateral", rest, null_when)


SEQUENCES = Table(
    "sequences",
    "How probable a target of several tokens is to be written through a chain, and where it dies.",
    "one row per prompt, chain and target",
    (
        PROMPT_ID,
        CHAIN,
        TARGET,
        IS_FOIL,
        Column("n_tokens", INT, "Its tokens.", unit="tokens", range=">= 1"),
        probability(
            "prob",
            "Product of the probabilities with which the chain draws its tokens, each after the prompt and"
            f" those before it; 0 where a stage removes one.{_MEAN}",
        ),
        probability("model_prob", "The same in the model's output, without a chain."),
        Column(
            "bits",
            FLOAT,
            "What the chain changes: log2(prob / model_prob). Positive where it makes the target likelier, as"
            " stages do that remove others.",
            unit="bits",
            null_when=IMPOSSIBLE,
        ),
        Column(
            "bits_left",
            FLOAT,
            "What is left to chance: -log2(prob).",
            unit="bits",
            range=">= 0",
            null_when=IMPOSSIBLE,
        ),
        Column("least_step", INT, "Step with the smallest probability through the chain.", unit="tokens"),
        Column(
            "dies_step",
            INT,
            "Step of the first token that the chain removes.",
            unit="tokens",
            range=">= 0",
            null_when=ALIVE,
        ),
        Column("dies_stage", STRING, "Name of the stage that removes it.", null_when=ALIVE),
        Column("dies_why", STRING, "One sentence: by which rule.", null_when=ALIVE),
        Column(
            "back_step",
            INT,
            "Step of the token in which the banned phrase begins: the text is taken back to it, and it is"
            " banned there.",
            unit="tokens",
            range="0 .. dies_step",
            null_when=STAYS,
        ),
        *cost(STAYS),
    ),
    asked_by=BY_THROUGH,
    of_prompt=True,
)

SEQUENCE_STEPS = Table(
    "sequence_steps",
    "Each token of a target through a chain, given the prompt and the tokens before it.",
    "one row per prompt, chain, target and token of it",
    (
        PROMPT_ID,
        CHAIN,
        TARGET,
        IS_FOIL,
        STEP,
        TOKEN,
        TOKEN_ID,
        probability("model_prob", "Its probability in the model's output, before any stage."),
        rank("model_rank", "Its rank in the model's output."),
        probability(
            "prob",
            f"Its probability through the chain, also where a token before it was removed.{_MEAN}",
        ),
        Column("alive", BOOL, "Whether the chain leaves it."),
        probability(
            "prob_so_far", "Product of `prob` up to here: how probable it is that the text gets this far."
        ),
        Column("removed_by", STRING, "Name of the stage that removes it.", null_when=LEFT),
        Column("why", STRING, "One sentence: by which rule.", null_when=LEFT),
        Column("top", STRING, "Text of the token that the chain draws most often here."),
        probability("top_prob", "Probability of that token through the chain."),
        probability(
            "end_model_prob", "Probability of the tokens that end a text (but this one), before any stage."
        ),
        probability("end_prob", f"Their probability through the chain.{_MEAN}"),
        Column(
            "end_removed_by",
            STRING,
            "Name of the stage that removes the last of the tokens that end a text.",
            null_when="the chain leaves one, or the model has none",
        ),
    ),
    asked_by=BY_THROUGH,
    of_prompt=True,
)

_SHARED = {column.name: column for column in SAMPLING.columns}

FATE = (
    _SHARED["stage_index"],
    _SHARED["stage"],
    Column("active", BOOL, "Whether the stage acts here."),
    rank(
        "rank_before",
        "Rank of the token before the stage.",
        null_when="a stage before it removed the token",
    ),
    probability("prob_before", "Probability of the token before the stage, among what is left there."),
    probability("prob_after", "Its probability after the stage."),
    Column(
        "bits",
        FLOAT,
        "log2(prob_after / prob_before): a filter that spares the token adds what it takes from others.",
        unit="bits",
        null_when="the stage removes the token, or one before it did (or the probability underflows)",
    ),
    Column("alive_after", BOOL, "Whether the token survives the stage."),
    Column(
        "why",
        STRING,
        "One sentence: why the stage removes the token, or what it repeats (DRY).",
        null_when="it does neither",
    ),
)
"""What one stage does to one followed token."""

SEQUENCE_STAGES = Table(
    "sequence_stages",
    "What each stage does to each token of a target.",
    "one row per prompt, chain, target, token of it and stage",
    (
        PROMPT_ID,
        CHAIN,
        TARGET,
        IS_FOIL,
        STEP,
        *FATE,
        probability("end_prob_before", "Probability of the tokens that end a text before the stage."),
        probability("end_prob_after", "Their probability after it."),
    ),
    asked_by=BY_THROUGH,
    of_prompt=True,
)
