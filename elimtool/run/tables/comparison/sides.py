"""Build the columns of a comparison: a value on side A, on side B, and B minus A."""

from __future__ import annotations

from dataclasses import replace

from elimtool.run.columns import FLOAT, INT, STRING, TARGET_TOKEN, Column

MISSING = "the side has no such row"
EITHER = "either side is null"
NOT_PROMPTS = "the comparison is not of two prompts"

PAIR_ID = Column(
    "pair_id",
    STRING,
    "Identifier of the pair: the prompt's where both sides have the same prompt. Joins all tables of a"
    " comparison.",
)
CHAIN = Column(
    "chain",
    STRING,
    "Name of the sampler chain on both sides; comparison.json holds them in full.",
    null_when="the sides are two chains of different names, which comparison.json gives",
)
STAGE = Column("stage", STRING, "Name of the stage, such as temperature, top_k, top_p, min_p or greedy.")


def sides(column: Column) -> tuple[Column, ...]:
    """Make a column for each side, ``NAME_a`` and ``NAME_b``; null also if the side lacks the row."""
    name, text, null = column.name, column.description, column.null_when
    why = f"{MISSING}, or {null}" if null else MISSING
    return tuple(
        replace(column, name=f"{name}_{side}", description=f"{text} On side {side.upper()}.", null_when=why)
        for side in "ab"
    )


def compared(column: Column, apart: str = "") -> tuple[Column, ...]:
    """Make a column for each side and ``NAME_difference``, B minus A.

    Args:
        column: The values of a side.
        apart: What makes the difference null though both sides have a value.
    """
    difference = Column(
        f"{column.name}_difference",
        column.type,
        f"{column.name}_b minus {column.name}_a.",
        unit=column.unit,
        null_when=f"{EITHER}, or {apart}" if apart else EITHER,
    )
    return (*sides(column), difference)


TOKENS = sides(TARGET_TOKEN) + sides(
    Column(
        "token_id",
        INT,
        "Vocabulary id of the token that stands for the target.",
        unit="token id",
        range="0 .. vocabulary - 1",
    )
)
RANK_RATIO = Column(
    "rank_ratio",
    FLOAT,
    "Logarithm (base 10) of B's rank over A's: 1 means that the target is ten times further down in B.",
    unit="decades of rank",
    null_when=EITHER,
)
