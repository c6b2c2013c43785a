"""The table of survival: the sampler settings that each target needs, whatever the chains in use."""

from __future__ import annotations

import pyarrow as pa

from elimtool.run.columns import (
    BOOL,
    FLOAT,
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
    rank,
)

TEMPERATURE_RANGES = pa.list_(
    pa.struct(
        [
            pa.field("chain", pa.string()),
            pa.field("t_min", pa.float64()),
            pa.field("t_max", pa.float64()),
            pa.field("status", pa.string()),
        ]
    )
)
IMPOSSIBLE = "the model gives the token probability 0: no setting keeps it"

SURVIVAL = Table(
    "survival",
    "The settings at which each target survives, whatever the chains in use.",
    "one row per prompt, position and target",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        TOKEN_ID,
        Column(
            "ambiguous",
            BOOL,
            "Whether another target or foil of the prompt is scored by the same token, so that the row"
            " cannot tell them apart.",
        ),
        rank(
            "rank",
            "Rank of the target in the model's output: 1 plus the number of tokens with a strictly larger"
            " logit.",
        ),
        probability(
            "prob",
            "Probability of the target's token in the model's output, at temperature 1 and before any stage.",
        ),
        Column(
            "target_logprob",
            FLOAT,
            "Natural logarithm of the joint probability of all tokens of the target, each given those before"
            " it.",
            unit="nats",
            range="<= 0",
            null_when="the target has several tokens and the position is not the prompt's last,"
            " or it does not fit the model's context, or the pass is under a patch or a knockout from the"
            " last position, which apply to the prompt as it is",
        ),
        Column(
            "min_top_k",
            INT,
            "Least k with which top-k keeps the target, applied alone.",
            unit="tokens",
            range="1 .. vocabulary",
            null_when=IMPOSSIBLE,
        ),
        probability(
            "min_top_p",
            "Infimum of the p with which top-p keeps the target, applied alone: the probability of all tokens"
            " more probable than it. It survives for every p above.",
            null_when=IMPOSSIBLE,
        ),
        Column(
            "max_min_p",
            FLOAT,
            "Largest m with which min-p keeps the target, applied alone: its probability over that of the"
            " most probable token.",
            unit="ratio",
            range="0 .. 1",
            null_when=IMPOSSIBLE,
        ),
        probability(
            "min_typical_p",
            "Infimum of the mass with which typical sampling keeps the target, applied alone: the probability"
            " of all tokens more typical than it. It survives for every mass above.",
            null_when=IMPOSSIBLE,
        ),
        Column(
            "min_top_n_sigma",
            FLOAT,
            "Least n with which top-n-sigma keeps the target, applied alone: its distance from the largest"
            " logit in standard deviations of all logits.",
            unit="standard deviations",
            range=">= 0",
            null_when=IMPOSSIBLE,
        ),
        Column(
            "temperature_ranges",
            TEMPERATURE_RANGES,
            "For each chain, the temperatures at which the target survives it, its other parameters as they"
            " are. status: 'interval' (from t_min to t_max), 'always', 'never', or 'not determined'"
            " (no rule is known for the stages after the temperature). A null end means that there is none.",
            unit="temperature",
            range="t_min, t_max >= 0",
            null_when="no chain was run",
        ),
        probability(
            "max_epsilon",
            "Largest epsilon with which epsilon sampling keeps the target, applied alone: its probability."
            " The most probable token survives any.",
            null_when=IMPOSSIBLE,
        ),
        TARGET_TOKEN,
        Column(
            "spelling",
            STRING,
            "The whole target as it was scored, with the space put before it, if any; 'target_token' is its"
            " first token, or the first that differs where all targets and foils of the prompt begin alike.",
            null_when="the run is of schema version 1, where 'target' is the spelling",
        ),
        Column(
            "other_spelling",
            STRING,
            "The other way to write the target here, with or without a space before it, which was not"
            " chosen: the model finds it less likely, or target_space is exact.",
            null_when="there is one way: between two letters of scripts with spaces, or next to white space",
        ),
        Column(
            "other_spelling_logprob",
            FLOAT,
            "Natural logarithm of the joint probability of all tokens of other_spelling after the prompt, by"
            " the model without interventions. That of spelling is prompts.appended_logprob plus"
            " target_logprob.",
            unit="nats",
            range="<= 0",
            null_when="other_spelling is null, or the two do not fit the model's context",
        ),
    ),
)
