"""The table of mechanisms: what norm, heads and MLP of each block did to the residual stream."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, POSITION, PROMPT_ID, STRING, Column, Table, share

NO_HEADS = "attention's output cannot be split into heads, or all heads add nothing"
NO_NEURONS = "the MLP's neurons cannot be seen (a mixture of experts), or all are 0"

_STREAM = (
    Column(
        "norm1_scale",
        FLOAT,
        "Factor that the norm of the attention branch applies: 1 / root mean square, for LayerNorm 1 /"
        " standard deviation. The norm in front of the branch, else the one behind it.",
        unit="1 / residual units",
        range="> 0",
        null_when="the block has no such norm",
    ),
    Column(
        "norm2_scale",
        FLOAT,
        "Factor that the norm of the MLP branch applies, likewise.",
        unit="1 / residual units",
        range="> 0",
        null_when="the block has no such norm of its own (branches that share one)",
    ),
    Column(
        "top_channel_share",
        FLOAT,
        "Share of the squared length of the entering residual that its largest channel holds; without the"
        " mean where the block's first norm removes it.",
        unit="share",
        range="1 / width .. 1",
        null_when="the residual is 0",
    ),
    Column(
        "top_channel_db",
        FLOAT,
        "How much the largest channel makes the norm shrink all others: 10 log10(1 - top_channel_share), the"
        " norm's epsilon left out.",
        unit="dB",
        range="<= 0",
        null_when="the residual is 0",
    ),
    Column(
        "max_abs",
        FLOAT,
        "Largest absolute value in the entering residual. Above 100, with max_ratio of about 1,000 or more,"
        " it is a massive activation.",
        unit="residual units",
        range=">= 0",
    ),
    Column(
        "max_channel",
        INT,
        "Channel of that value; the lowest index among equals.",
        unit="channel index",
        range="0 .. width - 1",
    ),
    Column(
        "max_ratio",
        FLOAT,
        "max_abs over the median absolute value of all residuals of the prompt that enter the block. In runs"
        " of schema version 1 the median is of this residual alone.",
        unit="ratio",
        range=">= 0",
        null_when="the median is 0",
    ),
    Column(
        "update_ratio",
        FLOAT,
        "Length of the block's update over the length of the residual that enters it.",
        unit="ratio",
        range=">= 0",
        null_when="the entering residual is 0",
    ),
    Column(
        "residual_cos",
        FLOAT,
        "Cosine between the residual before and after the block.",
        unit="cosine",
        range="-1 .. 1",
        null_when="either is 0",
    ),
    Column(
        "update_cos",
        FLOAT,
        "Cosine between the block's update and the entering residual; negative where the block erases.",
        unit="cosine",
        range="-1 .. 1",
        null_when="either is 0",
    ),
)

_HEADS = (
    share(
        "head_cancellation",
        "What the heads' outputs lose to one another: 1 - length of their sum / sum of their lengths, without"
        " bias and before any norm behind attention.",
        null_when=NO_HEADS,
    ),
    share(
        "head_cancellation_null",
        "The same for outputs of these lengths that are orthogonal to one another; heads cancel where"
        " head_cancellation is above it.",
        null_when=NO_HEADS,
    ),
)

_MLP = (
    share(
        "gate_closed_frac",
        "Share of neurons whose gate pre-activation is negative. A smooth gate shrinks these, it does not"
        " zero them.",
        null_when="the MLP has no gate that can be seen",
    ),
    share(
        "below_threshold_frac",
        "Share of neurons whose activation (what the down projection reads) is below 0.01 of the largest, in"
        " absolute value.",
        null_when=NO_NEURONS,
    ),
    Column(
        "participation_ratio",
        FLOAT,
        "Effective number of active neurons: (sum of a^2)^2 / sum of a^4 over activations a.",
        unit="neurons",
        range="1 .. neurons",
        null_when=NO_NEURONS,
    ),
    Column(
        "n90",
        INT,
        "Fewest neurons that hold 0.9 of the sum of the squared activations.",
        unit="neurons",
        range="1 .. neurons",
        null_when=NO_NEURONS,
    ),
    share(
        "cett_sparsity",
        "At least this share of neurons can be dropped, those that write least first, before the MLP's output"
        " (without bias) changes by more than 0.2 of its length.",
        null_when="mechanisms is not named in `tables`, the MLP's neurons cannot be seen, its output is 0, or"
        " single heads were not measured (the default where every position is probed)",
    ),
)

MECHANISMS = Table(
    "mechanisms",
    "What norm, heads and MLP of each block did to the residual stream.",
    "one row per prompt, position and layer",
    (
        PROMPT_ID,
        POSITION,
        Column(
            "layer",
            INT,
            "Block, from 0; the residual described is the one that enters it.",
            unit="layer index",
            range="0 .. layers - 1",
        ),
        *_STREAM,
        *_HEADS,
        *_MLP,
        Column(
            "undecomposed",
            STRING,
            "Why the block's update cannot be split into its heads and its MLP; then the table"
            " 'components' has no rows for the prompt.",
            null_when="the update is the sum of heads, MLP and biases",
        ),
    ),
)
