"""Group prompts of similar length for forward passes, so that little of a pass is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MOST_PADDING = 0.1
"""Share of a forward pass's token slots that may be padding."""

SLOTS = 4096
"""Token slots in one forward pass at most, unless a single prompt has more."""

LITTLE = 512
"""Up to this many token slots, padding costs less than a second forward pass for a few prompts."""


def buckets(
    lengths: Sequence[int], most: int, *, slots: int = SLOTS, little: int = LITTLE
) -> Iterator[list[int]]:
    """Group prompts by length, the longest first, so that running out of memory shows at once.

    Args:
        lengths: Tokens of each prompt.
        most: Prompts in a group at most.
        slots: Token slots in a group at most.
        little: Token slots of a group up to which any share of them may be padding.

    Yields:
        Indices into ``lengths``; each once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])  # stable: ties in input order
    group: list[int] = []
    used = 0
    for index in order:
        width = lengths[group[0]] if group else 0  # the first is the longest: all are padded to it
        padded = width * (len(group) + 1)
        wasted = padded - used - lengths[index]
        if group and (
            len(group) == most or padded > slots or (padded > little and wasted >= MOST_PADDING * padded)
        ):
            yield group
            group, used = [], 0
        group.append(index)
        used += lengths[index]
    if group:
        yield group


def slots_of(lengths: Sequence[int]) -> int:
    """Count the token slots of a group, padding included."""
    return max(lengths) * len(lengths)
