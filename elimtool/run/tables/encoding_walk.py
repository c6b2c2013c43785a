"""The tables of the encoding walk: how a position's residual gets from the embedding to the output."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    Column,
    Table,
    share,
)

UNSPLIT = "undecomposed says that what attention and MLP add is not known"
STILL = "nothing moves"
UNTURNED = "there are fewer than two blocks, or one does not move the residual"
LENGTH = {"unit": "residual units", "range": ">= 0"}


def _cosine(name: str, description: str, null_when: str) -> Column:
    return Column(name, FLOAT, description, unit="cosine", range="-1 .. 1", null_when=null_when)


ENCODING_WALK = Table(
    "encoding_walk",
    "How long and how straight the way of the residual from the embedding x_0 to the last layer x_L is,"
    " whether it turns, and what moves it. Rows that are massive are no walk (one step makes nearly all"
    " their length): leave them out of means.",
    "one row per prompt and position",
    (
        PROMPT_ID,
        POSITION,
        Column(
            "length",
            FLOAT,
            "Sum of the lengths of what attention and MLP of every block add (after a norm behind them).",
            **LENGTH,
            null_when=UNSPLIT,
        ),
        Column("length_blocks", FLOAT, "Sum of the lengths of the blocks' steps d_l.", **LENGTH),
        Column("displacement", FLOAT, "|x_L - x_0|.", **LENGTH),
        share(
            "straightness",
            "displacement / length_blocks. Compare it with the null alone: in many dimensions random steps"
            " are nearly at right angles.",
            null_when=STILL,
        ),
        share(
            "straightness_null",
            "The same for steps of these lengths at right angles to each other: sqrt(sum |d_l|^2) / sum"
            " |d_l|.",
            null_when=STILL,
        ),
        Column(
            "straightness_ratio",
            FLOAT,
            "straightness / straightness_null. About 1: as straight as steps at right angles; below: steps"
            " undo each other; above: they agree. Of these numbers the one to compare between models.",
            unit="ratio",
            range=">= 0",
            null_when=STILL,
        ),
        _cosine(
            "turning", "Mean cosine of d_l and d_{l+1}: below 0 steps go back, above they go on.", UNTURNED
        ),
        _cosine(
            "turning_null_low",
            "Its 2.5 % quantile over 200 random orders of the same steps, the same orders for every row.",
            UNTURNED,
        ),
        _cosine("turning_null_high", "Its 97.5 % quantile over them.", UNTURNED),
        share(
            "radial_share",
            "Mean over blocks of (d_l . x_l)^2 / (|d_l|^2 |x_l|^2): the share of a step along the residual"
            " that enters the block, which makes it longer or shorter and does not turn it.",
            null_when="the residual or a step is 0",
        ),
        share("radial_null", "1 / width: the mean of that share for steps of random directions."),
        share(
            "aggregation_share",
            "Share of length that is attention's, which gathers from positions; the rest is the MLPs'. A"
            " length is of the sum over heads, after they cancel: see mechanisms.head_cancellation.",
            null_when=f"{UNSPLIT}, or {STILL}",
        ),
        Column(
            "self_share",
            FLOAT,
            "Sum over blocks of the length of what attention adds from the position itself, over the sum of"
            " what it adds. That is filtering, not gathering. Above 1 where other positions cancel it.",
            unit="share",
            range=">= 0",
            null_when=f"{UNSPLIT}, weights and values do not give attention's output, or it is 0",
        ),
        Column(
            "largest_step_layer",
            INT,
            "Block with the longest step d_l, the first of equals.",
            unit="layer index",
            range="0 .. layers - 1",
            null_when=STILL,
        ),
        share("largest_step_share", "Its share of length_blocks.", null_when=STILL),
        Column(
            "massive",
            BOOL,
            "Whether after any block (or in the embedding) a channel is above 100 and above 1,000 times the"
            " median of the whole prompt's state (Sun et al. 2024): usually the attention sink.",
        ),
        Column(
            "undecomposed",
            STRING,
            "The first block of which it is not known what attention and MLP add, and why.",
            null_when="it is known of all",
        ),
    ),
)

ENCODING_STEPS = Table(
    "encoding_steps",
    "The steps of an encoding walk: how long each is, and whether it goes on from the one before.",
    "one row per prompt, position, layer and kind of step",
    (
        PROMPT_ID,
        POSITION,
        Column("layer", INT, "Block, from 0.", unit="layer index", range="0 .. layers - 1"),
        Column("kind", STRING, "What is added: by attention, by mlp, or by the block (both together)."),
        Column("step_length", FLOAT, "Its length.", **LENGTH, null_when=UNSPLIT),
        _cosine(
            "cos_previous",
            "Cosine with the step before: of an MLP with its block's attention, of attention with the MLP of"
            " the block before, of a block with the block before.",
            f"{UNSPLIT}, it is the first, attention and MLP read one residual (only of these two), or a step"
            " is 0",
        ),
        _cosine(
            "cos_residual",
            "Cosine with the residual that it is added to, of an MLP with that after attention. Of a block"
            " it is mechanisms.update_cos.",
            f"{UNSPLIT}, or one of the two is 0",
        ),
        share(
            "radial",
            "Share of its squared length along that residual: the square of cos_residual.",
            null_when=f"{UNSPLIT}, or one of the two is 0",
        ),
    ),
)
