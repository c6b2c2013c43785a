"""Compare two maps head by head and layer by layer, over the passages and probes that both have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elimtool.analysis.compare.notes import facts_apart
from elimtool.analysis.compare.runs import opened
from elimtool.analysis.map import layers, roles
from elimtool.analysis.map.sums import TEXT, Array, Sums
from elimtool.analysis.map.units import differs, interval
from elimtool.errors import ElimError, Exit
from elimtool.files.rows import Row, Rows
from elimtool.run.comparison import Comparison
from elimtool.run.manifest import utc_now
from elimtool.run.reader import Run
from elimtool.run.tables.comparison.maps import MAP_DIFFERENCES

MOVED = 0.1
"""Difference from which a role that a head has on both sides is told as moved."""
TURNED = 0.05
"""Difference from which a role that only one side has is told: a head at the threshold turns by itself."""
CERTAIN = 0.05
"""Largest q of a role that appeared, vanished or moved."""


def compare_maps(map_a: Run | str | Path, map_b: Run | str | Path) -> Comparison:
    """Compare two maps of models of one architecture, paired by passage and probe; differences are B minus A.

    Args:
        map_a: A map or its directory.
        map_b: Another: of a fine-tuned or quantised copy, or of another checkpoint.

    Raises:
        ElimError: One cannot be read, is not a map or has no findings; the models have other numbers of
            layers or heads, or the maps have no part or no passages in common (exit code 5).
    """
    started = utc_now()
    runs = opened(map_a), opened(map_b)
    a, b = (Sums(run) for run in runs)
    _refuse_other_shapes(a, b)
    parts = [part for part in COMPARED if part in a.parts and part in b.parts]
    if not parts:
        raise ElimError(
            f"the maps have no part in common that can be compared: {', '.join(a.parts)} in A,"
            f" {', '.join(b.parts)} in B",
            f"make both with one of {', '.join(COMPARED)}",
            Exit.NOTHING,
        )
    pairs = {kind: _paired(a, b, kind) for kind in dict.fromkeys((*_kinds(a), *_kinds(b)))}
    if not any(len(one) for one, _ in pairs.values()):
        raise ElimError(
            "the maps have no passage and no probe in common: their texts or tokens are not the same",
            "map both models on the same corpus, with as many tokens",
            Exit.NOTHING,
        )
    rows = [row for part in parts for row in COMPARED[part](a, b, pairs)]
    lost = [sum(len(sums.of(kind)) - len(pairs[kind][0]) for kind in pairs) for sums in (a, b)]
    return Comparison.of(
        "maps",
        a.run.manifest,
        b.run.manifest,
        {"map_differences": MAP_DIFFERENCES.from_rows(rows)},
        options={"parts": parts, "units": {kind: len(one) for kind, (one, _) in pairs.items()}},
        notes=[*facts_apart(a.run.manifest, b.run.manifest), *_notes(a, b, lost)],
        unpaired=(lost[0], lost[1]),
        started=started,
    )


Pairs = dict[str, tuple[list[int], list[int]]]
"""Kind of passages or probes -> their places among those of A, and of B, in pairs."""


@dataclass(frozen=True)
class _Both:
    """A measure on both sides, [units, layers] or [units, layers, heads], unit by unit the same text."""

    name: str
    a: Array
    b: Array

    def rows(self) -> Iterator[Row]:
        """Make the rows of a table, without what only roles have."""
        known = ~np.isnan(self.a + self.b).reshape(len(self.a), -1).all(1)  # layers: not read out there
        a, b = self.a[known], self.b[known]
        if not len(a):
            return
        middle, low, high = interval(b - a)
        numbers = {"score_a": a.mean(0), "score_b": b.mean(0), "score_difference": middle}
        numbers |= {"low": low, "high": high, **dict(zip("pq", differs(b - a), strict=True))}
        for place in np.ndindex(middle.shape):
            row: Row = {"layer": place[0], "head": place[1] if len(place) == 2 else None}
            row |= {
                name: None if np.isnan(one[place]) else float(one[place]) for name, one in numbers.items()
            }
            nothing = dict.fromkeys(("present_a", "present_b", "change"))
            yield row | {"measure": self.name, **nothing, "n_units": len(a)}


def _roles(a: Sums, b: Sums, pairs: Pairs) -> Rows:
    """Compare the roles of heads that both maps have."""
    present = [_present(sums) for sums in (a, b)]
    others = {one.role: one for one in roles.measured(b)}
    found: Rows = []
    for one in roles.measured(a):
        first, second = pairs[one.probe]
        if one.role not in others or not first:
            continue
        both = _Both(one.role, one.values[first], others[one.role].values[second])
        for row in both.rows():
            key = row["layer"], row["head"], one.role
            has = {f"present_{side}": known.get(key) for side, known in zip("ab", present, strict=True)}
            found.append(row | has | {"change": _change(row | has)})
    return found


def _present(sums: Sums) -> dict[Any, bool | None]:
    """Look up which head has which role, as the map's findings say."""
    rows = sums.run.analysis("map").arrow("head_roles").to_pylist()
    return {(row["layer"], row["head"], row["role"]): row["present"] for row in rows}


def _change(row: Row) -> str | None:
    a, b = row["present_a"], row["present_b"]
    if a is None or b is None or row["score_difference"] is None:
        return None
    if row["q"] is None or row["q"] > CERTAIN:
        return "same"
    if a != b:
        turned = "appeared" if b else "vanished"
        return turned if abs(row["score_difference"]) >= TURNED else "same"
    return "moved" if a and abs(row["score_difference"]) >= MOVED else "same"


def _layers(a: Sums, b: Sums, pairs: Pairs) -> Rows:
    """Compare the numbers of layers that are means over passages."""
    first, second = pairs[TEXT]
    if not first:
        return []
    sides = [layers.measured(sums) for sums in (a, b)]
    both = (_Both(name, one[first], sides[1][name][second]) for name, one in sides[0].items())
    return [row for one in both for row in one.rows()]


COMPARED = {"roles": _roles, "layers": _layers}
"""Part of a map -> its rows."""


def _kinds(sums: Sums) -> list[str]:
    return [str(row["group"]) for row in sums.units]


def _paired(a: Sums, b: Sums, kind: str) -> tuple[list[int], list[int]]:
    """Pair the passages or probes of a kind that have the same tokens."""
    keys = [[(row["prompt_id"], tuple(row["token_ids"])) for row in sums.of(kind)] for sums in (a, b)]
    places = {key: place for place, key in enumerate(keys[1])}
    found = [(place, places[key]) for place, key in enumerate(keys[0]) if key in places]
    return [one for one, _ in found], [other for _, other in found]


def _refuse_other_shapes(a: Sums, b: Sums) -> None:
    shapes = [(sums.n_layers, sums.n_heads) for sums in (a, b)]
    if shapes[0] != shapes[1]:
        said = " and ".join(f"{layers} layers of {heads} heads" for layers, heads in shapes)
        raise ElimError(
            f"the maps are of models with {said}: a head of one stands for no head of the other",
            "compare a model with a copy of it: fine-tuned, quantised, or another checkpoint",
            Exit.NOTHING,
        )


def _notes(a: Sums, b: Sums, lost: list[int]) -> list[str]:
    told = [
        f"{count:,} of the passages and probes {'is' if count == 1 else 'are'} in {side} alone: not compared."
        for count, side in zip(lost, "AB", strict=True)
        if count
    ]
    for one, other, side in ((a, b, "B"), (b, a, "A")):
        if lacking := [part for part in COMPARED if part in one.parts and part not in other.parts]:
            told.append(f"{side} has no part {', '.join(lacking)}: not compared.")
    return told
