"""The tables of sampling: what each stage of a chain cuts, and what a target needs to survive."""

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
    TOKEN_ID,
    Column,
    Table,
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
GONE = "an earlier stage removed the target"
IMPOSSIBLE = "the model gives the token probability 0: no setting keeps it"

CHAIN = Column("chain", STRING, "Name of the sampler chain; run.json holds it in full.")
STAGE_INDEX = Column(
    "stage_index",
    INT,
    "Place of the stage in its chain, from 0. Every stage has a row, those turned off too.",
    unit="stage index",
    range=">= 0",
)
STAGE = Column("stage", STRING, "Name of the stage, such as temperature, top_k, top_p, min_p or greedy.")

SAMPLING = Table(
    "sampling",
    "What each stage of each sampler chain removes.",
    "one row per prompt, position, chain and stage",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        Column(
            "engine",
            STRING,
            "Engine whose rules for ties, thresholds and order the stage follows.",
            null_when="the chain follows no engine",
        ),
        STAGE_INDEX,
        STAGE,
        Column(
            "active",
            BOOL,
            "Whether the stage's parameters turn it on. A stage that is off, temperature 1 included, prunes"
            " nothing.",
        ),
        Column(
            "params", STRING, "The stage's parameters, as a JSON text with sorted keys.", range="valid JSON"
        ),
        Column(
            "n_before",
            INT,
            "Tokens still alive when the stage begins (logit above minus infinity).",
            unit="tokens",
            range="1 .. vocabulary",
        ),
        Column("n_after", INT, "Tokens still alive after the stage.", unit="tokens", range="1 .. n_before"),
        Column(
            "mass_pruned",
            FLOAT,
            "Probability of the removed tokens in the distribution that the stage was given, renormalised"
            " over the survivors so far; 0 for a stage that removes none.",
            unit="probability",
            range="0 .. 1",
        ),
        Column(
            "threshold",
            FLOAT,
            "The cut that the stage applied here, in its own unit: the least logit or probability kept, the"
            " cumulative mass, or the like.",
            unit="the stage's own",
            null_when="the stage is off or by nature removes nothing",
        ),
        Column(
            "entropy_before",
            FLOAT,
            "Shannon entropy of the distribution that the stage was given.",
            unit="nats",
            range=">= 0",
        ),
        Column(
            "entropy_after",
            FLOAT,
            "Shannon entropy of the distribution that the stage leaves, renormalised.",
            unit="nats",
            range=">= 0",
        ),
        Column("top_token", STRING, "Text of the most probable token after the stage."),
        Column(
            "top_prob",
            FLOAT,
            "Probability of that token after the stage, renormalised.",
            unit="probability",
            range="0 .. 1",
        ),
    ),
)

SAMPLING_TARGETS = Table(
    "sampling_targets",
    "Whether each target lives through each stage, and by how much.",
    "one row per prompt, position, chain, stage and target",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        STAGE_INDEX,
        STAGE,
        TARGET,
        TOKEN_ID,
        Column("alive_before", BOOL, "Whether the target is alive when the stage begins."),
        Column(
            "alive_after",
            BOOL,
            "Whether the target is alive after the stage. The stage that eliminates it is the one with"
            " alive_before true and alive_after false.",
        ),
        Column(
            "prob_before",
            FLOAT,
            "Probability of the target in the distribution that the stage was given; 0 once it is removed.",
            unit="probability",
            range="0 .. 1",
        ),
        Column(
            "prob_after",
            FLOAT,
            "Probability of the target after the stage, renormalised; 0 once it is removed.",
            unit="probability",
            range="0 .. 1",
        ),
        Column(
            "rank_before",
            INT,
            "Rank of the target among the tokens alive when the stage begins: 1 plus the number with a"
            " strictly larger logit.",
            unit="rank",
            range="1 .. n_before",
            null_when=GONE,
        ),
        Column(
            "margin",
            FLOAT,
            "How far the target is from the stage's cut, positive where it survives. Logit difference for"
            " top-k, greedy and min-p (nats), cumulative mass for top-p and typical, logarithm of a ratio for"
            " epsilon and eta, logits for top-n-sigma.",
            unit="the stage's own",
            null_when=f"the stage is off or by nature removes nothing, or {GONE}",
        ),
    ),
)

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
            "Whether another target or foil of the prompt is scored by the same token, so that the row tells"
            " nothing that sets them apart.",
        ),
        Column(
            "rank",
            INT,
            "Rank of the target in the model's output: 1 plus the number of tokens with a strictly larger"
            " logit.",
            unit="rank",
            range="1 .. vocabulary",
        ),
        Column(
            "prob",
            FLOAT,
            "Probability of the target's token in the model's output, at temperature 1 and before any stage.",
            unit="probability",
            range="0 .. 1",
        ),
        Column(
            "target_logprob",
            FLOAT,
            "Natural logarithm of the joint probability of all tokens of the target, each given those before"
            " it.",
            unit="nats",
            range="<= 0",
            null_when="the target with its prompt is longer than the model's context",
        ),
        Column(
            "min_top_k",
            INT,
            "Least k with which top-k keeps the target, applied alone.",
            unit="tokens",
            range="1 .. vocabulary",
            null_when=IMPOSSIBLE,
        ),
        Column(
            "min_top_p",
            FLOAT,
            "Infimum of the p with which top-p keeps the target, applied alone: the probability of all tokens"
            " more probable than it. It survives for every p above.",
            unit="probability",
            range="0 .. 1",
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
        Column(
            "min_typical_p",
            FLOAT,
            "Infimum of the mass with which typical sampling keeps the target, applied alone: the probability"
            " of all tokens more typical than it. It survives for every mass above.",
            unit="probability",
            range="0 .. 1",
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
            " are. status: 'interval' (from t_min to t_max), 'always', 'never', or 'not monotone' (more than"
            " one range). A null end means that there is none.",
            unit="temperature",
            range="t_min, t_max >= 0",
            null_when="no chain was run",
        ),
    ),
)
