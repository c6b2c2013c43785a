"""The tables of grammars: what a grammar, JSON schema or regular expression removes, forces and refuses."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    STRINGS,
    TARGET,
    Column,
    Table,
    probability,
)
from elimtool.run.tables.sampling import CHAIN, EARLIER, STAGE, STAGE_INDEX
from elimtool.run.tables.walk import STEP

LEFT = "what was written has left the grammar"
WHOLE = "the grammar refuses none of it"

_SHARED = (
    STAGE_INDEX,
    STAGE,
    Column("engine", STRING, "Library and version that made the mask; others mask otherwise."),
    Column(
        "mode",
        STRING,
        "mask: what it was given is masked. check: the token that the stages before it draw is checked, and"
        " where it is refused, they run once more on the masked output (llama.cpp).",
        null_when=EARLIER,
    ),
    Column("syntax", STRING, "What is followed: json_schema, grammar or regex."),
    Column("n_written", INT, "Tokens of the output so far.", unit="tokens", range=">= 0"),
    Column(
        "n_valid",
        INT,
        "How many of them, from the first, begin a text of the grammar.",
        unit="tokens",
        range="0 .. n_written",
    ),
    Column("refused", STRING, "The first of them that the grammar refuses.", null_when=WHOLE),
    Column(
        "state",
        STRING,
        "Where in the JSON the output stands, in words.",
        null_when=f"no JSON schema is followed, or {LEFT}",
    ),
    Column("may_stop", BOOL, "Whether the output is a whole text of the grammar.", null_when=LEFT),
    Column(
        "n_allowed",
        INT,
        "Tokens of the vocabulary that the grammar allows next, removed by other stages or not.",
        unit="tokens",
        range=">= 0",
        null_when=LEFT,
    ),
    Column("forced", BOOL, "Whether it allows one token only: nothing is left to chance.", null_when=LEFT),
    Column(
        "forced_text",
        STRING,
        "Text that must come next, by whichever tokens.",
        null_when=f"none must, or {LEFT}",
    ),
    probability(
        "mass_removed",
        "Probability of what the stage removes in the distribution it was given: where it checks, that the"
        " drawn token is rejected.",
    ),
    Column(
        "distortion",
        FLOAT,
        "Kullback-Leibler divergence of the distribution that the stage leaves from the one it was given: of"
        " a mask -ln(1 - mass_removed), computed so that it stays exact where almost everything is removed.",
        unit="nats",
        range=">= 0",
        null_when=f"nothing is left, tokens came back that the first pass lacks, or {LEFT}",
    ),
    Column(
        "cut",
        STRING,
        "Text of the most probable token that the stage removes.",
        null_when="it removes none",
    ),
    probability(
        "cut_prob", "Probability of that token in the distribution it was given.", null_when="it removes none"
    ),
)

GRAMMAR = Table(
    "grammar",
    "What a grammar removes and forces where a chain has one.",
    "one row per prompt, position and chain with a grammar",
    (PROMPT_ID, POSITION, CHAIN, *_SHARED),
)

GRAMMAR_TARGETS = Table(
    "grammar_targets",
    "How much of each target a grammar accepts after the output so far, whatever the model thinks of it.",
    "one row per prompt, position, chain with a grammar and target",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        TARGET,
        Column("n_tokens", INT, "Tokens of the target.", unit="tokens", range=">= 1"),
        Column(
            "n_valid",
            INT,
            "How many of them, from the first, the grammar accepts: its longest valid beginning.",
            unit="tokens",
            range="0 .. n_tokens",
        ),
        Column("valid_prefix", STRING, "Text of these."),
        Column("refused", STRING, "Text of the next one, which the grammar refuses.", null_when=WHOLE),
        Column(
            "allowed",
            STRINGS,
            "Texts of tokens that it would have allowed there: the five with the lowest ids.",
            null_when=WHOLE,
        ),
        Column(
            "n_allowed",
            INT,
            "How many tokens it would have allowed there.",
            unit="tokens",
            range=">= 0",
            null_when=WHOLE,
        ),
        Column("complete", BOOL, "Whether the output and the target are a whole text of the grammar."),
    ),
)

WALK_GRAMMAR = Table(
    "walk_grammar",
    "What a grammar removes and forces at each step of a walk.",
    "one row per prompt and written token",
    (
        PROMPT_ID,
        STEP,
        POSITION,
        CHAIN,
        *_SHARED,
        Column(
            "distortion_so_far",
            FLOAT,
            "Sum of distortion up to this step: by how many nats masking step by step makes the output"
            " likelier than the distributions that it masks do. Conditioning on the grammar would make"
            " every output likelier by one and the same amount: masking prefers outputs whose sum is larger.",
            unit="nats",
            range=">= 0",
            null_when=f"distortion is null here or at an earlier step, or {LEFT}",
        ),
    ),
    of_prompt=True,
)
