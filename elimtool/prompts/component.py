"""Read the names of components, a head, an MLP or an expert, as users and papers write them."""

from __future__ import annotations

import re

_NUMBER = "([0-9]{1,6})"
_HEAD = re.compile(rf"(?:(?:(?:head|attn)[ .]?)?l?|a){_NUMBER}(?:\.|[ .]?h){_NUMBER}", re.IGNORECASE)
_MLP = re.compile(rf"(?:mlp[ .]?l?|m){_NUMBER}|l?{_NUMBER}[ .]?mlp", re.IGNORECASE)

_EXPERT = re.compile(rf"expert[ .]?l?{_NUMBER}[.e]{_NUMBER}|l{_NUMBER}[ .]?e{_NUMBER}", re.IGNORECASE)

SHAPES = (
    "give LAYER.HEAD for a head (29.1 or L29H1), mlp.LAYER for an MLP (mlp.12), or expert.LAYER.EXPERT for"
    " an expert (expert.12.7)"
)
"""Hint for a name that is none of them."""


def parse_component(text: str) -> tuple[int, int | None] | None:
    """Read the name of a component.

    Args:
        text: A head as ``29.1``, ``L29H1``, ``a29.h1`` or, as in tables, ``head 29.1``; an MLP as ``mlp.12``,
            ``mlp12``, ``m12``, ``L12.mlp`` or ``mlp 12``. Case does not matter.

    Returns:
        Layer and head, the head ``None`` for an MLP; ``None`` where the text is not such a name.
    """
    text = text.strip()
    if found := _HEAD.fullmatch(text):
        return int(found[1]), int(found[2])
    if found := _MLP.fullmatch(text):
        return int(found[1] or found[2]), None
    return None


def parse_expert(text: str) -> tuple[int, int] | None:
    """Read the name of an expert of a mixture: ``expert.12.7``, ``L12E7`` or, as in tables, ``expert 12.7``.

    Returns:
        Layer and expert; ``None`` where the text is not such a name.
    """
    found = _EXPERT.fullmatch(text.strip())
    return None if found is None else (int(found[1] or found[3]), int(found[2] or found[4]))


def component_in_tables(text: str) -> str:
    """Spell a component as the tables do, such as ``head 29.1``; any other text stays as it is."""
    if expert := parse_expert(text):
        return "expert {}.{}".format(*expert)
    found = parse_component(text)
    if found is None:
        return text
    layer, head = found
    return f"mlp {layer}" if head is None else f"head {layer}.{head}"
