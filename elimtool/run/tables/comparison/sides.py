"""Columns that the tables of a comparison share: a number on side A, on side B, and B minus A."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from elimtool.run.columns import AFTER_LAYER, FLOAT, INT, LAYER, STRING, TARGET, Column

__all__ = [
    "AFTER_LAYER",
    "CHAIN",
    "EITHER",
    "LAYER",
    "MISSING",
    "NOT_PROMPTS",
    "PAIR_ID",
    "RANK_RATIO",
    "STAGE",
    "TARGET",
    "TOKEN_IDS",
    "compared",
    "sides",
]

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


def sides(
    name: str, kind: Any, description: str, *, unit: str = "", range: str = "", null_when: str = ""
) -> tuple[Column, Column]:
    """A column for each side: ``NAME_a`` and ``NAME_b``.

    Args:
        name: What both are called.
        kind: Arrow type.
        description: What the value is, one sentence with its full stop.
        unit: Unit of the values.
        range: Valid values.
        null_when: What makes a side null, beside its lacking the row.
    """
    why = f"{MISSING}, or {null_when}" if null_when else MISSING
    one = Column(f"{name}_a", kind, f"{description} On side A.", unit=unit, range=range, null_when=why)
    return one, replace(one, name=f"{name}_b", description=f"{description} On side B.")


def compared(
    name: str,
    kind: Any,
    description: str,
    *,
    unit: str,
    range: str = "",
    null_when: str = "",
    apart: str = "",
) -> tuple[Column, Column, Column]:
    """A column for each side and ``NAME_difference``, B minus A.

    Args:
        name: What the two are called.
        kind: Arrow type.
        description: What the value is, one sentence with its full stop.
        unit: Unit of the values.
        range: Valid values.
        null_when: What makes a side null, beside its lacking the row.
        apart: What makes the difference null though both sides have a value.
    """
    difference = Column(
        f"{name}_difference",
        kind,
        f"{name}_b minus {name}_a.",
        unit=unit,
        null_when=f"{EITHER}, or {apart}" if apart else EITHER,
    )
    return (*sides(name, kind, description, unit=unit, range=range, null_when=null_when), difference)


TOKEN_IDS = sides(
    "token_id",
    INT,
    "Vocabulary id of the token that stands for the target.",
    unit="token id",
    range="0 .. vocabulary - 1",
)
RANK_RATIO = Column(
    "rank_ratio",
    FLOAT,
    "Logarithm (base 10) of B's rank over A's: 1 means that the target stands ten times further down in B.",
    unit="decades of rank",
    null_when=EITHER,
)
