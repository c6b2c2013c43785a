"""The tables of chains that run twice: what each pass removes where a grammar checks the drawn token."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    TARGET,
    TARGET_TOKEN,
    TOKEN_ID,
    Column,
    Table,
    probability,
)
from elimtool.run.tables.sampling import CHAIN, EMPTY, STAGE

_PASS = (
    Column(
        "pass",
        INT,
        "1 for the chain without its grammar; 2 for the one that follows where the grammar refuses the token"
        " drawn in the first: the grammar, then the same stages on the same output.",
        range="1 .. 2",
        unit="pass",
    ),
    probability(
        "pass_prob",
        "Probability that the token comes from this pass: of the second, that the first draw is rejected.",
    ),
    Column(
        "stage_index",
        INT,
        "Place of the stage in its pass, from 0: in the second pass the grammar is the first.",
        unit="stage index",
        range=">= 0",
    ),
    STAGE,
)

GRAMMAR_PASSES = Table(
    "grammar_passes",
    "What each stage removes in both passes of a chain whose grammar checks the drawn token, as llama.cpp's"
    " does. What is left in the end is the mixture of the two, by pass_prob; of the first pass only what the"
    " grammar allows: see the grammar's row in sampling.",
    "one row per prompt, position, chain that runs twice, pass and stage",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        *_PASS,
        Column("active", BOOL, "Whether the stage acts in this pass."),
        Column("n_before", INT, "Tokens alive when the stage begins.", unit="tokens", range=">= 0"),
        Column("n_after", INT, "Tokens alive after it.", unit="tokens", range=">= 0"),
        probability("mass_pruned", "Probability of what it removes, in what it was given in this pass."),
        Column("top_token", STRING, "Text of the most probable token after the stage.", null_when=EMPTY),
        probability("top_prob", "Probability of that token, renormalised.", EMPTY),
    ),
    may_be_empty=True,
)

GRAMMAR_PASS_TARGETS = Table(
    "grammar_pass_targets",
    "Whether each target survives each stage of both passes of a chain whose grammar checks the drawn token.",
    "one row per prompt, position, chain that runs twice, pass, stage and target",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        *_PASS,
        TARGET,
        TARGET_TOKEN,
        TOKEN_ID,
        Column("alive_before", BOOL, "Whether the target is alive when the stage begins."),
        Column("alive_after", BOOL, "Whether it is alive after the stage."),
        probability("prob_before", "Its probability before the stage; 0 once it is removed."),
        probability("prob_after", "Its probability after the stage, renormalised; 0 once it is removed."),
        Column(
            "why",
            STRING,
            "One sentence: why the stage removed the target, or what counts against it.",
            null_when="the stage did neither",
        ),
    ),
    may_be_empty=True,
)
