"""The tables of what rows carry: reach of heads, contributions of parts, recovery, rollout."""

from __future__ import annotations

from dataclasses import replace

from elimtool.prompts.prompt import NULL, SINK
from elimtool.run.columns import (
    FLOAT,
    INT,
    LAYER,
    POSITION,
    PROMPT_ID,
    STRING,
    AskedBy,
    Column,
    Table,
    share,
)
from elimtool.run.tables.attention import SPAN, UNKNOWN, UNSEEN_PARTS

FEW = "fewer than 32 tokens outside the sink set have a share in early and in late layers"

HEAD_CONTEXT = Table(
    "head_context",
    "How far back each head reads, and what it gives to the sink and to nothing.",
    "one row per prompt, position, layer and head",
    (
        PROMPT_ID,
        POSITION,
        LAYER,
        Column("head", INT, "Query head.", unit="head index", range="0 .. heads - 1"),
        Column(
            "context_90",
            INT,
            "Effective context: how many of the nearest visible non-sink keys, the query's own token first,"
            " hold 0.9 of this head's weight on all of them.",
            unit="tokens",
            range="1 .. visible non-sink keys",
            null_when="the head leaves less than 0.01 to keys outside the sink set",
        ),
        share("null_mass", "Share of attention on the layer's learned null.", null_when="it has none"),
        share("sink_mass", "Share of attention on the sink set.", null_when="the prompt has no sink set"),
        share(
            "sink_norm_share",
            "Share of the sink set in what the head carries, by length.",
            null_when=f"the prompt has no sink set, or {UNKNOWN}",
        ),
        share(
            "negative_mass",
            "Weight of the visible keys with an attention score below 0.",
            null_when="the scores are not shown",
        ),
    ),
)

CONTRIBUTIONS = Table(
    "contributions",
    "What the residual stream after attention and after the block is made of, by span, residual, MLP and"
    " bias.",
    "one row per prompt, position, layer, step of the block and part",
    (
        PROMPT_ID,
        POSITION,
        LAYER,
        Column(
            "block_step",
            STRING,
            "'attention': the result is the stream between attention and MLP; 'mlp': the stream after the"
            " block; 'block': the same in blocks whose attention and MLP are parallel, which have no other"
            " step.",
        ),
        Column(
            "part",
            STRING,
            f"What was added up: a span (also '{SINK}', and '{NULL}' with 0), '<residual>' the stream before"
            " the step, '<mlp>' the MLP's output, '<bias>' the biases of attention's output and of a norm"
            " behind it.",
        ),
        Column("kind", STRING, "Kind of the part: span, residual, mlp or bias."),
        share(
            "contribution",
            "How much closer the part brings the others to the result, in the 1-norm and clipped at 0, over"
            " the sum for all parts of the step; tokens with heads summed are the parts, and a span has the"
            " sum over its tokens. Arithmetic of Ferrando et al. (ALTI), with the residual as a part of its"
            " own.",
            null_when=f"{UNSEEN_PARTS}, or no part brings the result closer",
        ),
        Column(
            "alignment",
            FLOAT,
            "Dot product of the part with the result over the result's squared length. The parts of a step"
            " sum to 1; negative pulls against the result.",
            unit="share",
            null_when=UNSEEN_PARTS,
        ),
        Column(
            "length",
            FLOAT,
            "Euclidean norm of the part over that of the result; of a span, summed over its tokens.",
            unit="ratio",
            range="0 ..",
            null_when=UNSEEN_PARTS,
        ),
    ),
)

RECOVERY = Table(
    "recovery",
    "Whether late layers come back to tokens that early layers starved of attention.",
    "one row per prompt, position and kind of share",
    (
        PROMPT_ID,
        POSITION,
        Column(
            "by",
            STRING,
            "What a token's share is of: 'mass' attention weights, 'norm' lengths of what heads carry; among"
            " the keys outside the sink set, relative to an even share, mean over heads and layers.",
        ),
        Column(
            "n_keys",
            INT,
            "Visible tokens outside the sink set with a share both in the early third and the late third of"
            " the layers.",
            unit="tokens",
            range="0 .. position + 1",
        ),
        Column(
            "starved",
            INT,
            "Those with less than half an even share in the early third.",
            unit="tokens",
            range="0 .. n_keys",
            null_when=FEW,
        ),
        Column(
            "recovered",
            INT,
            "Starved tokens with at least an even share in the late third.",
            unit="tokens",
            range="0 .. starved",
            null_when=FEW,
        ),
        Column(
            "expected",
            FLOAT,
            "Starved tokens that would be recovered by chance: the mean over all ways to shuffle late shares"
            " among tokens at like distance (1, 2 to 3, 4 to 7 and so on).",
            unit="tokens",
            range="0 .. starved",
            null_when=FEW,
        ),
        Column(
            "carry_over",
            FLOAT,
            "Rank correlation (Spearman) of early and late shares at like distance.",
            unit="correlation",
            range="-1 .. 1",
            null_when=f"{FEW}, or all shares at like distance are equal",
        ),
    ),
)

UNROLLED = (
    "no token of the span stands at or before the query, or in some row up to it the parts of a layer's"
    " update are not known (undecomposed says why) or none brings the result closer"
)

ROLLOUT = Table(
    "rollout",
    "What the last layer's row holds of each span of the prompt, through the attention of all layers.",
    "one row per prompt, position and span",
    (
        PROMPT_ID,
        POSITION,
        replace(SPAN, description=SPAN.description.split(", or '")[0] + "."),
        share(
            "rollout",
            "Share of the span, from the product over layers of matrices with each token's contribution to"
            " each row (as in 'contributions'), and on the diagonal also that of the residual and the biases,"
            " and of the MLP where it stands beside attention. Spans that share no token sum to 1.",
            null_when=UNROLLED,
        ),
        share(
            "rollout_null",
            "The same with what each row has from tokens spread evenly over all that it sees; the residual's"
            " share is the measured one.",
            null_when=UNROLLED,
        ),
        Column(
            "lift",
            FLOAT,
            "Logarithm of rollout over rollout_null: above 0 more of the span is mixed in than by even rows.",
            unit="nats",
            null_when=f"{UNROLLED}, or rollout is 0",
        ),
        Column(
            "undecomposed",
            STRING,
            "Why nothing is known: the layer whose attention is not the sum of its parts, and what is in the"
            " way.",
            null_when="all layers are sums of their parts",
        ),
    ),
    asked_by=AskedBy("rollout", "give it: it takes every row of every layer up to the probed one"),
)
