"""The tables of paths: ways that a text may go on, and each token of them."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    INTS,
    PROMPT_ID,
    STRING,
    STRINGS,
    AskedBy,
    Column,
    Table,
    probability,
    rank,
    share,
)

NO_CHAIN = "the run has no sampler chain"

PATH = Column(
    "path",
    STRING,
    "Kind of path as it was asked for, such as least-entropy:4; given: a text of the user's.",
)
PLACE = Column(
    "place",
    INT,
    "Place among the paths of its kind: the best first, sampled ones as they were drawn.",
    unit="place",
    range=">= 1",
)

BY_PATHS = AskedBy("paths", "name kinds of paths with it, such as greedy,beam:4,sampled:16")

PATHS = Table(
    "paths",
    "Ways that the text may go on: how probable each is, how uncertain the model is along it, and which"
    " chains would let it be written.",
    "one row per prompt and path",
    (
        PROMPT_ID,
        PATH,
        PLACE,
        Column("text", STRING, "Its text."),
        Column("token_ids", INTS, "Its tokens.", unit="token ids"),
        Column("n_tokens", INT, "Its tokens.", unit="tokens", range=">= 1"),
        Column("ended", BOOL, "Whether its last token ends a text."),
        Column(
            "retokenised",
            BOOL,
            "Whether the prompt and the text have other tokens where they are tokenised as one.",
            null_when="the path is not a text of the user's",
        ),
        Column(
            "logprob",
            FLOAT,
            "Sum of its tokens' log-probabilities in the output, at temperature 1 and before any stage. Paths"
            " of different lengths do not compare.",
            unit="nats",
            range="<= 0",
        ),
        Column(
            "entropy",
            FLOAT,
            "Sum of the entropies of the outputs that its tokens are taken from.",
            unit="nats",
            range=">= 0",
        ),
        Column(
            "excess",
            FLOAT,
            "How much more surprising its tokens are than the outputs lead to expect: -logprob - entropy. 0"
            " on average for texts drawn from the model itself.",
            unit="nats",
        ),
        probability("mean_prob", "Geometric mean of its tokens' probabilities."),
        share(
            "rep4",
            "Share of its runs of four tokens that have occurred before in it.",
            "it has fewer than four tokens",
        ),
        Column(
            "looped",
            BOOL,
            "Whether it ends in three copies of a piece of at most 32 tokens: low entropy is"
            " what loops have.",
        ),
        Column("allowed_by", STRINGS, "Chains that leave every token of it."),
        Column(
            "regret_logprob",
            FLOAT,
            "What it gives away to the likeliest path of the prompt, counted over as many tokens as it has.",
            unit="nats",
            range=">= 0",
        ),
        Column(
            "regret_entropy",
            FLOAT,
            "Its entropy above that of the path with the least, counted over as many tokens as it has.",
            unit="nats",
            range=">= 0",
        ),
    ),
    asked_by=BY_PATHS,
    of_prompt=True,
)

PATH_STEPS = Table(
    "path_steps",
    "Each token of a path in the output, and what each chain does to it after those before it.",
    "one row per prompt, path, chain and token of it",
    (
        PROMPT_ID,
        PATH,
        PLACE,
        Column("step", INT, "Number of its token, from 0.", unit="tokens", range=">= 0"),
        Column("token", STRING, "Text of the token."),
        Column("token_id", INT, "Vocabulary index of the token.", unit="token id"),
        Column("logprob", FLOAT, "Its log-probability in the output.", unit="nats", range="<= 0"),
        Column("entropy", FLOAT, "Entropy of that output.", unit="nats", range=">= 0"),
        rank("rank", "Its rank there."),
        Column("chain", STRING, "Name of the sampler chain.", null_when=NO_CHAIN),
        Column("alive", BOOL, "Whether the chain leaves it.", null_when=NO_CHAIN),
        Column(
            "cut_stage",
            STRING,
            "Name of the stage that removes it.",
            null_when="the chain leaves the token, or the run has no chain",
        ),
        Column(
            "cut_why",
            STRING,
            "One sentence: by which rule.",
            null_when="the chain leaves the token, or the run has no chain",
        ),
    ),
    asked_by=BY_PATHS,
    of_prompt=True,
)
