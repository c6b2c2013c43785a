"""The tables of attention in a comparison: spans that gained or lost attention, and heads that moved."""

from __future__ import annotations

from dataclasses import replace

from elimtool.run.columns import FLOAT, INT, LAYER, STRING, Column, Table, share
from elimtool.run.tables.attention import ATTENTION
from elimtool.run.tables.comparison.sides import EITHER, PAIR_ID, compared, sides

NO_SHARE = "a share is 0 or 1, whose logit is infinite"

SPAN = Column("span", STRING, "Name of the span, which both sides have.")

CARRIED = ("norm_share", "block_share", "contribution", "alignment")
"""Columns of ``attention`` that say what rows carry."""
_COLUMNS = {column.name: column for column in ATTENTION.columns}

ATTENTION_DIFFERENCES = Table(
    "attention_differences",
    "How much attention each span keeps on the two sides, layer by layer.",
    "one row per pair, layer and span that both sides have",
    (
        PAIR_ID,
        LAYER,
        SPAN,
        *compared(
            share(
                "mass",
                "Share of attention on the span, mean over heads.",
                null_when="no token of the span is visible",
            )
        ),
        *compared(
            Column(
                "lift",
                FLOAT,
                "mass relative to an even spread; comparable across prompts, which mass is not.",
                unit="ratio",
                range=">= 0",
                null_when="no token of the span is visible",
            )
        ),
        *compared(
            share(
                "mass_no_sink",
                "Share of the span in what the sink set leaves.",
                null_when="it is null in the table attention",
            )
        ),
        *compared(
            Column(
                "lift_no_sink",
                FLOAT,
                "mass_no_sink relative to an even spread.",
                unit="ratio",
                range=">= 0",
                null_when="it is null in the table attention",
            )
        ),
        Column(
            "logit_shift",
            FLOAT,
            "Logit of mass_no_sink_b minus that of mass_no_sink_a: above 0 the span gained attention.",
            unit="logits",
            null_when=f"{EITHER}, or {NO_SHARE}",
        ),
        *(column for name in CARRIED for column in compared(_COLUMNS[name])),
    ),
)

HEAD_DIFFERENCES = Table(
    "head_differences",
    "Which heads turn from one span to another. Filled where two prompts with named spans are compared.",
    "one row per pair, layer, head and span",
    (
        PAIR_ID,
        LAYER,
        Column("head", INT, "Query head.", unit="head index", range="0 .. heads - 1"),
        replace(SPAN, description="Name of the span, which either side has."),
        *compared(
            share(
                "mass",
                "Share of the head's attention on the span.",
                null_when="no token of the span is visible",
            )
        ),
        *sides(
            share(
                "focus",
                "Instruction focus of the head: mass on the instruction over mass on instruction and data.",
                null_when="the prompt has no span of an instruction (system, instruction, user) or of data",
            )
        ),
        Column("focus_shift", FLOAT, "focus_b minus focus_a.", unit="share", null_when=EITHER),
        Column(
            "focus_z",
            FLOAT,
            "focus_shift minus its mean over the controls, over their standard deviation.",
            unit="standard deviations",
            null_when="there are fewer than two controls, or focus_shift is null",
        ),
        Column(
            "retention_shift",
            FLOAT,
            "Logit of the head's sink-excluded mass on the span in B, minus that in A.",
            unit="logits",
            null_when=f"{EITHER}, or {NO_SHARE}",
        ),
        Column(
            "z",
            FLOAT,
            "retention_shift minus its mean over the controls, over their standard deviation.",
            unit="standard deviations",
            null_when="there are fewer than two controls, or retention_shift is null",
        ),
    ),
)
