"""Compare two maps head by head and layer by layer, over the passages and probes that both have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elimtool.analysis.compare.map_ratios import Ratios, of_category, of_reach
from elimtool.analysis.compare.notes import facts_apart
from elimtool.analysis.compare.runs import opened
from elimtool.analysis.map import layers, roles
from elimtool.analysis.map.categories import enough
from elimtool.analysis.map.named import OVERLAYS
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
    rows = [{"part": part} | row for part in parts for row in COMPARED[part](a, b, pairs)]
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
            yield row | {"measure": self.name, **NO_ROLE, "n_units": len(a)}


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


def _ratios(one: Ratios, n_units: int) -> Iterator[Row]:
    """Make the rows of a measure that is a ratio of sums."""
    if n_units < 2 or not one.known.any():
        return
    low, high = one.ends()
    p, q = one.tested()
    a, b = one.scores
    columns = {
        "score_a": a,
        "score_b": b,
        "score_difference": b - a,
        "low": low,
        "high": high,
        "p": p,
        "q": q,
    }
    for index, (layer, head) in enumerate(np.argwhere(one.known)):
        row: Row = {"layer": int(layer), "head": int(head), "measure": one.name, "n_units": n_units}
        yield row | NO_ROLE | {name: float(values[index]) for name, values in columns.items()}


def _categories(a: Sums, b: Sums, pairs: Pairs) -> Rows:
    """Compare what heads keep of each category that both maps have."""
    units = pairs[TEXT]
    if a.categories != b.categories or not units[0]:
        return []
    known = enough(a.each("categories", "tokens", TEXT)[units[0]])
    each = (
        of_category(a, b, units, name, index)
        for index, name in enumerate((*a.categories, *OVERLAYS))
        if known[index]
    )
    return [row for one in each for row in _ratios(one, len(units[0]))]


def _distances(a: Sums, b: Sums, pairs: Pairs) -> Rows:
    """Compare how far heads look; and, without intervals, what position alone explains on each side."""
    units = pairs[TEXT]
    shapes = {sums.each("distances", "lift", TEXT).shape[1:] for sums in (a, b)}
    reach = [] if not units[0] or len(shapes) > 1 else list(_ratios(of_reach(a, b, units), len(units[0])))
    return reach + _stated(a, b, "head_kernels", ("self_bias_position", "self_bias_net", "kernel_r", "d50"))


def _neurons(a: Sums, b: Sums, pairs: Pairs) -> Rows:
    """Compare the share of neurons that are open, and count on each side those that never or always are."""
    first, second = pairs[TEXT]
    rows: Rows = []
    if first and all(sums.has("neurons", "opened") for sums in (a, b)):
        sides = (sums.each("neurons", "opened", TEXT)[some] for sums, some in ((a, first), (b, second)))
        rows += _Both("open", *sides).rows()
    counts = [_counted(sums) for sums in (a, b)]
    for layer in sorted(counts[0].keys() & counts[1].keys()):
        for name in ("never_open", "always_open"):
            scores = [float(one[layer][name]) for one in counts]
            rows.append(_unpaired(layer, None, name, *scores))
    return rows


def _counted(sums: Sums) -> dict[int, Row]:
    found: dict[int, Row] = {}
    for row in sums.run.analysis("map").arrow("neurons").to_pylist():
        if row["neuron"] is not None:
            one = found.setdefault(row["layer"], {"never_open": 0, "always_open": 0})
            one["never_open"] += row["open"] == 0
            one["always_open"] += row["open"] == 1
    return found


def _stated(a: Sums, b: Sums, table: str, names: tuple[str, ...]) -> Rows:
    """Compare columns of a table with a row a head, as each map's findings have them."""
    sides = [
        {(row["layer"], row["head"]): row for row in sums.run.analysis("map").arrow(table).to_pylist()}
        for sums in (a, b)
    ]
    return [
        _unpaired(*head, name, row[name], sides[1][head][name])
        for name in names
        for head, row in sides[0].items()
        if head in sides[1] and row[name] is not None and sides[1][head][name] is not None
    ]


def _unpaired(layer: int, head: int | None, measure: str, a: float, b: float) -> Row:
    """Make a row of numbers that are of all passages of each map together, and so have no interval."""
    row: Row = {"layer": layer, "head": head, "measure": measure, "n_units": None}
    row |= {"score_a": float(a), "score_b": float(b), "score_difference": float(b) - float(a)}
    return row | NO_ROLE | dict.fromkeys(("low", "high", "p", "q"))


NO_ROLE = dict.fromkeys(("present_a", "present_b", "change"))
"""What only roles have."""
COMPARED = {
    "roles": _roles,
    "categories": _categories,
    "distances": _distances,
    "layers": _layers,
    "neurons": _neurons,
}
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
