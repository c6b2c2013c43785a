"""Group prompts for forward passes: those of similar length, and those that begin alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from elimtool.model.packing import ordered

if TYPE_CHECKING:
    from elimtool.model.model import Model

MOST_PADDING = 0.1
"""Share of a forward pass's token slots that may be padding."""

SLOTS = 4096
"""Token slots in one forward pass at most, unless a single prompt has more."""

LITTLE = 512
"""Up to this many token slots, padding costs less than a second forward pass for a few prompts."""

ALIKE = 1 / 3
"""Share of the longer of two prompts that they begin with alike if they are to run side by side."""


def buckets(
    lengths: Sequence[int],
    most: int,
    *,
    slots: int = SLOTS,
    little: int = LITTLE,
    families: Sequence[Sequence[int]] = (),
) -> Iterator[list[int]]:
    """Group prompts by length, the longest first, so that running out of memory shows at once.

    Args:
        lengths: Tokens of each prompt.
        most: Prompts in a group at most.
        slots: Token slots in a group at most.
        little: Token slots of a group up to which any share of them may be padding.
        families: Prompts that stay side by side, as many as fit into a group; what is padding among them does
            not count, since it does not run.

    Yields:
        Indices into ``lengths``; each once.
    """
    related = {index for family in families for index in family}
    units = [[index] for index in range(len(lengths)) if index not in related]
    for family in families:
        size = max(1, min(most, slots // max(lengths[index] for index in family)))
        units += [list(family[start : start + size]) for start in range(0, len(family), size)]
    longest = [max(lengths[index] for index in unit) for unit in units]
    group: list[int] = []
    width = used = 0
    for at in sorted(range(len(units)), key=lambda at: -longest[at]):  # stable: ties in input order
        taken = len(units[at]) * longest[at]
        width = width or longest[at]  # the first is the longest: all are padded to it
        padded = width * (len(group) + len(units[at]))
        wasted = padded - used - taken
        if group and (
            len(group) + len(units[at]) > most
            or padded > slots
            or (padded > little and wasted >= MOST_PADDING * padded)
        ):
            yield group
            group, used, width = [], 0, longest[at]
        group += units[at]
        used += taken
    if group:
        yield group


def passes_of(
    model: Model, texts: Sequence[Sequence[int]], most: int, *, little: int = LITTLE, apart: bool = False
) -> Iterator[list[int]]:
    """Group texts for passes of a model: those that begin alike side by side, where that saves tokens.

    Args:
        model: The model.
        texts: Token ids of each.
        most: Texts in a pass at most.
        little: See ``buckets``.
        apart: Whether each runs whole anyway, as under interventions: then only padding counts.
    """
    alike = [] if apart else families_of(texts)
    shared = bool(alike) and model.shares([texts[at] for at in alike[0]])
    return buckets([len(text) for text in texts], most, little=little, families=alike if shared else ())


def families_of(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Find texts that begin alike, in the order of their prefix tree; single ones are left out."""
    found: list[list[int]] = []
    order, shared = ordered(texts)
    for at, index in enumerate(order):
        near = at and shared[at] >= ALIKE * max(len(texts[index]), len(texts[order[at - 1]]))
        if near:
            found[-1].append(index)
        else:
            found.append([index])
    return [family for family in found if len(family) > 1]


def slots_of(lengths: Sequence[int]) -> int:
    """Count the token slots of a group, padding included."""
    return max(lengths) * len(lengths)
