"""The tables of beams: texts that a beam search finds, what each step drops, and whether targets stay."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, INTS, PROMPT_ID, STRING, AskedBy, Column, Table
from elimtool.run.tables.sequences import IS_FOIL, TARGET
from elimtool.run.tables.walk import STEP

CHAIN = Column(
    "chain",
    STRING,
    "Name of the sampler chain; only stages that are not for draws act on beams, see docs/beams.md.",
)
TEXT = Column("text", STRING, "The text after the prompt.")
TOKEN_IDS = Column("token_ids", INTS, "Vocabulary indices of its tokens.", unit="token id")
SCORE = Column(
    "score",
    FLOAT,
    "Sum over its tokens of their log-probabilities after the chain's stages, not normalised again.",
    unit="nats",
)
LOGPROB = Column(
    "logprob",
    FLOAT,
    "Log-probability of its tokens in the model's output, before any stage.",
    unit="nats",
    range="<= 0",
)

BY_BEAMS = AskedBy("beams", "say with it how many texts to hold, such as 4")

BEAMS = Table(
    "beams",
    "The texts that a beam search finds, those that it finished and let go of, and those it never finished.",
    "one row per prompt and text",
    (
        PROMPT_ID,
        CHAIN,
        Column("fate", STRING, "result, displaced (by better finished texts) or unfinished."),
        Column(
            "place",
            INT,
            "Place in the result.",
            unit="place",
            range=">= 1",
            null_when="the text is not in the result",
        ),
        TEXT,
        TOKEN_IDS,
        Column("n_tokens", INT, "Its tokens.", unit="tokens", range=">= 1"),
        Column("ended", BOOL, "Whether its last token ends a text."),
        Column(
            "final_score",
            FLOAT,
            "score / n_tokens ** length penalty, by which finished texts are compared.",
            unit="nats",
        ),
        SCORE,
        LOGPROB,
    ),
    asked_by=BY_BEAMS,
    of_prompt=True,
    may_be_empty=True,
)

BEAM_STEPS = Table(
    "beam_steps",
    "What each step of a beam search looked at: the continuations that go on, finish and are dropped.",
    "one row per prompt, step and continuation looked at",
    (
        PROMPT_ID,
        CHAIN,
        STEP,
        Column("place", INT, "Place by score among all continuations.", unit="place", range=">= 1"),
        Column("beam", INT, "Place of the text that it continues.", unit="place", range=">= 1"),
        Column("token", STRING, "Text of the token that continues it."),
        Column("token_id", INT, "Vocabulary index of the token.", unit="token id"),
        TEXT,
        SCORE,
        LOGPROB,
        Column("ends", BOOL, "Whether the token ends the text."),
        Column("fate", STRING, "open (goes on), finished or dropped."),
        Column(
            "lead",
            FLOAT,
            "Its score less that of the last that goes on or, if it ends, of the last that may finish."
            " Negative for what is dropped.",
            unit="nats",
            null_when="fewer continuations than beams are possible",
        ),
    ),
    asked_by=BY_BEAMS,
    of_prompt=True,
    may_be_empty=True,
)

_STAYS = "all its tokens stay"
_BANNED = "a stage removes the token"

BEAM_TARGETS = Table(
    "beam_targets",
    "Whether a beam search keeps each target, where it drops it, and how many beams would keep it.",
    "one row per prompt and target",
    (
        PROMPT_ID,
        CHAIN,
        TARGET,
        IS_FOIL,
        Column(
            "n_followed",
            INT,
            "Tokens of it that were followed: all, or as many as the search writes.",
            unit="tokens",
            range=">= 1",
        ),
        Column("stays", BOOL, "Whether each of them stayed among the texts that go on or finish."),
        Column(
            "dropped_step",
            INT,
            "Number of the token with which it was dropped, or after which the search ended, from 0.",
            unit="tokens",
            range=">= 0",
            null_when=_STAYS,
        ),
        Column("dropped_token", STRING, "Text of that token.", null_when=_STAYS),
        Column(
            "place",
            INT,
            "Its place by score among all continuations, where it was dropped or else at its last token.",
            unit="place",
            range=">= 1",
            null_when=_BANNED,
        ),
        Column(
            "lead",
            FLOAT,
            "Its score there less that of the last text that goes on or, if it ends there, may finish;"
            " negative where it was dropped.",
            unit="nats",
            null_when=f"{_BANNED}, or fewer continuations than beams are possible",
        ),
        Column("removed_by", STRING, "Stage that removes the token.", null_when="no stage removes it"),
        Column(
            "least_beams",
            INT,
            "Least number of beams that keeps it so. A larger number may drop it again.",
            unit="beams",
            range=">= 1",
            null_when="none up to most_beams keeps it",
        ),
        Column("most_beams", INT, "Numbers of beams up to this were tried.", unit="beams", range=">= 1"),
        Column(
            "best_place",
            INT,
            "Place of the first text of the result that begins with it.",
            unit="place",
            range=">= 1",
            null_when="no text of the result does",
        ),
    ),
    asked_by=BY_BEAMS,
    of_prompt=True,
    may_be_empty=True,
)
