"""Judge where patching restores or destroys a decision, and sum it up by layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from elimtool.analysis.evidence import QUANTILE
from elimtool.files.rows import Row, Rows

LEAST_GAP = 0.5
"""Smallest difference (nats) between the two runs' logit differences in which anything can be located."""

TIMES_RANDOM = 2.0
"""... and how many times as large as that between random replacements it must be."""

NEGLIGIBLE = 0.01
"""Largest share of the gap that never counts: where nothing acts, the null is 0 up to rounding."""

HELD = 0.5
"""Share of the gap that a place must restore, and destroy, to be said to hold the decision."""


def random_gap(values: Sequence[float]) -> float | None:
    """Compute the median difference of all pairs of random replacements; ``None`` with fewer than two."""
    apart = [abs(one - other) for one, other in combinations(values, 2)]
    return float(np.median(apart)) if apart else None


def locatable(gap: float, random: float | None) -> bool:
    """Tell whether the clean run is so far above the corrupt one that anything can be located."""
    return gap > LEAST_GAP and gap > TIMES_RANDOM * (random or 0.0)


def settled(value: float, others: Sequence[float], count: int) -> bool:
    """Tell whether an effect cannot count any more, whatever the rest of ``count`` unrelated states do.

    So it is where it is negligible, or where as many of ``others`` do at least as much as lie above the place
    of the quantile: that order statistic, and so the quantile, can then only be as large or larger.
    """
    above = count - int(QUANTILE * (count - 1))
    return abs(value) <= NEGLIGIBLE or sum(abs(other) >= abs(value) for other in others) >= above


def counts(value: float | None, null: float | None, located: bool) -> bool:
    """Tell whether an effect counts: something can be located, and it exceeds the null."""
    return located and value is not None and null is not None and abs(value) > max(null, NEGLIGIBLE)


@dataclass(frozen=True, slots=True)
class Held:
    """A part of the prompt, and the layers in which it alone holds the decision.

    Attributes:
        first, last: Its positions.
        first_layer, last_layer: Layers, -1 being the embedding.
        r, q: Smallest and largest share of the gap that it restores, and destroys.
        null: Smallest and largest null quantile.
    """

    first: int
    last: int
    first_layer: int
    last_layer: int
    r: tuple[float, float]
    q: tuple[float, float]
    null: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Located:
    """Where the decision sits in the residual stream.

    Attributes:
        source: At the changed tokens, from the embedding on; ``None`` if not even the embedding holds it.
        read: At the token that is read, up to the last layer; ``None`` if that alone never holds it.
        between: At single other tokens, in layers between the two.
    """

    source: Held | None
    read: Held | None
    between: tuple[Held, ...]


def held(row: Row) -> bool:
    """Tell whether a place alone restores and destroys at least half of the gap, beyond the null."""
    return bool(row["r_counts"] and row["q_counts"] and min(row["r"], row["q"]) >= HELD)


def located(rows: Rows, changed: Sequence[int], read: int) -> Located:
    """Sum up the rows of the residual stream.

    Args:
        rows: Rows of ``locations`` of one pair.
        changed: Positions at which the prompts differ.
        read: Position that is read.
    """
    stream = [row for row in rows if row["site"] == "residual" and row["layer"] == row["last_layer"]]
    by_place: dict[tuple[int, int], Rows] = {}
    for row in sorted(stream, key=lambda row: int(row["layer"])):
        by_place.setdefault((row["position"], row["last_position"]), []).append(row)
    whole = (changed[0], changed[-1])
    source = next((one for one in _spells(by_place.get(whole, [])) if one.first_layer == -1), None)
    last = max((row["layer"] for row in stream), default=-1)
    ends = [one for one in _spells(by_place.get((read, read), [])) if one.last_layer == last]
    others = [
        one
        for place, some in by_place.items()
        if place[0] == place[1] and place[0] != read and not changed[0] <= place[0] <= changed[-1]
        for one in _spells(some)
    ]
    return Located(source, ends[0] if ends else None, tuple(others))


def _spells(rows: Rows) -> list[Held]:
    """Find the stretches of consecutive layers in which one place holds the decision."""
    found: list[Rows] = []
    for row in rows:
        if held(row):
            if found and found[-1] and found[-1][-1]["layer"] == row["layer"] - 1:
                found[-1].append(row)
            else:
                found.append([row])
    return [
        Held(
            some[0]["position"],
            some[0]["last_position"],
            some[0]["layer"],
            some[-1]["layer"],
            _range(some, "r"),
            _range(some, "q"),
            _range(some, "r_null", "q_null"),
        )
        for some in found
    ]


def _range(rows: Rows, *columns: str) -> tuple[float, float]:
    values = [row[column] for row in rows for column in columns]
    return min(values), max(values)
