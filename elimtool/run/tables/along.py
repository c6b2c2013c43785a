"""The table of an answer along a text, with the text's segments in other orders beside it."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    PROMPT_ID,
    STRING,
    STRINGS,
    AskedBy,
    Column,
    Table,
    rank,
    share,
)

NO_SEGMENT = "no segment is given, or arrangement is 'filler'"

ANSWERS_ALONG = Table(
    "answers_along",
    "How an answer fares after each segment of a text, and after its segments in other orders.",
    "one row per prompt, arrangement, draw, number of segments and answer",
    (
        PROMPT_ID,
        Column(
            "arrangement",
            STRING,
            "What stands before the cue: the text's first segments, all of them in another order, or as many"
            " tokens that say nothing.",
            range="text, shuffled, filler",
        ),
        Column(
            "draw",
            INT,
            "Number of the order, from 0.",
            unit="orders",
            range="0 .. 9",
            null_when="arrangement is not 'shuffled'",
        ),
        Column("k", INT, "Segments that are given.", unit="segments", range=">= 0"),
        Column(
            "n_tokens",
            INT,
            "Tokens that the answer is read after, the cue and appended ones included.",
            unit="tokens",
            range=">= 1",
        ),
        Column("segment", STRING, "Text of the last segment that is given.", null_when=NO_SEGMENT),
        Column(
            "answer",
            STRING,
            "Target or foil as the user asked for it; without any, the token that the whole text leads to.",
        ),
        Column("is_foil", BOOL, "Whether it is a foil."),
        Column(
            "token_id",
            INT,
            "Its first token after those that all answers begin with, of which the numbers are.",
            unit="token id",
            range=">= 0",
        ),
        rank("rank", "Its rank."),
        Column("logprob", FLOAT, "Its log-probability.", unit="nats", range="<= 0"),
        Column("alive_in", STRINGS, "Sampler chains that leave it."),
        Column("top", STRING, "The most probable token."),
        Column("same", BOOL, "Whether that is the one after the whole text."),
        Column(
            "copied",
            BOOL,
            "Whether a word of the last segment begins with it.",
            null_when=NO_SEGMENT,
        ),
        share(
            "share_holding", "Segments of the text, given or not, that have such a word: copied by chance."
        ),
        Column(
            "retokenised",
            BOOL,
            "Whether the text up to here and the cue have other tokens if tokenised by themselves.",
            null_when="arrangement is not 'text'",
        ),
    ),
    asked_by=AskedBy("along", "say with it how to cut the text, such as sentences"),
    of_prompt=True,
)
