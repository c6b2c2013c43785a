"""The tables of grammars: what a grammar, JSON schema or regular expression removes, forces and refuses."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    INTS,
    POSITION,
    PROMPT_ID,
    STRING,
    STRINGS,
    TARGET,
    AskedBy,
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

BY_TEXTS = AskedBy("grammar_texts", "say with it how many beginnings of one length to follow, such as 32")
_KEY = (PROMPT_ID, CHAIN, STAGE_INDEX, STAGE)
PARTLY = "beginnings were left out"

GRAMMAR_WHOLE = Table(
    "grammar_whole",
    "How probable the texts of a grammar are together, and how far masking step by step is from them.",
    "one row per prompt and chain with a grammar that masks",
    (
        *_KEY,
        Column("engine", STRING, "Library and version that made the masks; others mask otherwise."),
        Column("syntax", STRING, "What is followed: json_schema, grammar or regex."),
        Column(
            "n_texts",
            INT,
            "Whole texts that were found, each with the token that ends it; spellings by other tokens count"
            " apart, as far as the library allows them.",
            unit="texts",
            range=">= 0",
        ),
        Column("n_read", INT, "Beginnings that the model was read after.", unit="texts", range=">= 1"),
        Column(
            "exact",
            BOOL,
            "Whether no beginning that the mask allows was left out: the grammar has no other texts.",
        ),
        probability(
            "mass_least",
            "Sum of the texts' probabilities in what the mask is given, without the mask: a text drawn freely"
            " is one of the grammar at least so often.",
        ),
        probability("mass_most", "The same with all that was left out: at most so often."),
        Column(
            "log_mass",
            FLOAT,
            "Natural logarithm of that sum, ln Z.",
            unit="nats",
            range="<= 0",
            null_when=f"{PARTLY}, or there is no text",
        ),
        Column(
            "divergence",
            FLOAT,
            "Kullback-Leibler divergence of the texts as the mask draws them from the texts as a free model"
            " writes them where they are of the grammar: ln Z plus the mean of `distortion` over a text.",
            unit="nats",
            range=">= 0",
            null_when=f"{PARTLY}, or there is no text",
        ),
    ),
    asked_by=BY_TEXTS,
    of_prompt=True,
)

GRAMMAR_TEXTS = Table(
    "grammar_texts",
    "The most probable texts of a grammar, and how far masking step by step favours each.",
    "one row per prompt, chain with a grammar that masks and text",
    (
        *_KEY,
        Column("place", INT, "Place by `logprob`.", unit="place", range=">= 1"),
        Column("text", STRING, "The text, without the token that ends it."),
        Column("token_ids", INTS, "Vocabulary indices of its tokens, the end last.", unit="token id"),
        Column("n_tokens", INT, "Its tokens, the end among them.", unit="tokens", range=">= 1"),
        Column(
            "logprob",
            FLOAT,
            "Log-probability of the whole in what the mask is given, without the mask.",
            unit="nats",
            range="<= 0",
        ),
        Column("masked_logprob", FLOAT, "The same through the mask.", unit="nats", range="<= 0"),
        Column(
            "favoured",
            FLOAT,
            "Log-probability through the mask, less that among all texts of the grammar as a free model"
            " writes them: positive where masking writes it too often.",
            unit="nats",
            null_when=PARTLY,
        ),
    ),
    asked_by=BY_TEXTS,
    of_prompt=True,
    may_be_empty=True,
)
