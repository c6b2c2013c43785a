"""Measure whether concepts are kept or cut alike in all variants of one thing, against sets as frequent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elimtool.analysis.populations.sweep.variants import Place, Varied, varied
from elimtool.analysis.statistics.rankings import rank_biased_overlap
from elimtool.files.rows import Row, Rows
from elimtool.run.reader import Run

ALL = "all"
NUCLEUS = 0.9
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]


def stability_rows(runs: Mapping[str, Run]) -> Rows:
    """Make the rows of ``stability``, for each thing that variants differ in.

    Args:
        runs: Runs by name; none of its rows where a run lacks the table ``concepts``.
    """
    if not all("concepts" in run.tables for run in runs.values()):
        return []
    kinds = {over: one for over, one in varied(runs).items() if one.several()}
    wanted = {place for one in kinds.values() for some in one.several().values() for place in some.values()}
    found: dict[tuple[Any, ...], dict[Place, dict[int, tuple[bool, float]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for at, row in _read(runs, "concepts", wanted):
        place = row["concept"], row["layer"], row["chain"], row["stage_index"], row["stage"]
        control = -1 if row["control"] is None else row["control"]
        found[place][at][control] = row["alive"], row["mass"]
    survivors = _survivors(runs, wanted)
    depth = max((layer for _, layer, *_ in found if layer is not None), default=None)
    rows: Rows = []
    for over, kind in kinds.items():
        for place, cells in found.items():
            concept, layer, chain, _, stage = place
            about = {"concept": concept, "over": over, "layer": layer, "chain": chain, "stage": stage}
            lists = survivors if layer == depth else {}
            rows += [about | row for row in _of_place(kind, cells, lists)]
    return rows


def _of_place(
    kind: Varied,
    cells: Mapping[Place, Mapping[int, tuple[bool, float]]],
    survivors: Mapping[Place, Sequence[int]],
) -> Iterator[Row]:
    """Yield the rows of all things at one layer or stage, and the one that sums them up."""
    measured, own = [], []
    for key, some in kind.several().items():
        if not all(at in cells for at in some.values()):
            continue
        one = _Measured([cells[at] for at in some.values()], list(some), kind.first)
        lists = [survivors[at] for at in some.values()] if survivors else []
        measured.append(one)
        own.append({"key": key, **_row([one]), "reference": one.reference, **_overlap(lists)})
    yield from own
    if not measured:
        return
    every = [row for row in own if row["rbo"] is not None]
    overlap = _overlap([])
    if every:
        overlap["rbo"] = float(np.mean([row["rbo"] for row in every]))
        overlap["rbo_smallest"] = min(row["rbo_smallest"] for row in every)
        overlap["rbo_largest"] = max(row["rbo_largest"] for row in every)
    reference = next((one.reference for one in measured if one.reference is not None), None)
    yield {"key": ALL, **_row(measured), "reference": reference, **overlap}


def _read(runs: Mapping[str, Run], table: str, wanted: Set[Place]) -> Iterator[tuple[Place, Row]]:
    """Yield the rows of a table at some places."""
    for name, run in runs.items():
        positions = pa.array(sorted({at[2] for at in wanted if at[0] == name}), pa.int32())
        whole = run.arrow(table)
        for row in whole.filter(pc.is_in(whole["position"], positions)).to_pylist():
            at = name, row["prompt_id"], row["position"]
            if at in wanted:
                yield at, row


def _survivors(runs: Mapping[str, Run], wanted: Set[Place]) -> dict[Place, list[int]]:
    """List the tokens of each output's nucleus, as far as ``top_tokens`` goes; empty without the table."""
    if not all("top_tokens" in run.tables for run in runs.values()):
        return {}
    found: dict[Place, list[int]] = defaultdict(list)
    mass: dict[Place, float] = defaultdict(float)
    for at, row in sorted(_read(runs, "top_tokens", wanted), key=lambda one: one[1]["place"]):
        if mass[at] < NUCLEUS - 1e-9:  # sums of probabilities round
            found[at].append(row["token_id"])
            mass[at] += row["prob"]
    return found


class _Measured:
    """What the variants of one thing have: alive and mass of the concept and of its control sets."""

    def __init__(
        self, cells: Sequence[Mapping[int, tuple[bool, float]]], names: Sequence[str], first: str | None
    ) -> None:
        self.n = len(cells)
        self.reference = first if first in names else None
        controls = sorted(set.intersection(*(set(one) for one in cells)) - {-1})
        self.alive = np.array([one[-1][0] for one in cells])
        self.mass = np.array([one[-1][1] for one in cells])
        against = None if self.reference is None else self.alive[names.index(self.reference)]
        self.flips = None if against is None else int((self.alive != against).sum())
        self.controls = [agreement(np.array([one[each][0] for one in cells])) for each in controls]


def _row(measured: Sequence[_Measured]) -> Row:
    """Average over keys; flips and counts are summed."""
    own = float(np.mean([agreement(one.alive) for one in measured]))
    count = min(len(one.controls) for one in measured)
    controls = np.mean([one.controls[:count] for one in measured], axis=0) if count else None
    flips = [one.flips for one in measured if one.flips is not None]
    return {
        "n": sum(one.n for one in measured),
        "membership": float(np.mean([one.alive.mean() for one in measured])),
        "agreement": own,
        "flips": sum(flips) if flips else None,
        "mass_stability": float(np.mean([mass_stability(one.mass) for one in measured])),
        "control_agreement": None if controls is None else float(controls.mean()),
        "excess": None if controls is None else own - float(controls.mean()),
        "p_value": None
        if controls is None
        else (1 + int((controls >= own - 1e-12).sum())) / (1 + len(controls)),
    }


def agreement(alive: Flags) -> float:
    """Return the share of pairs of variants that agree whether a concept is alive.

    Args:
        alive: [variants], two or more.
    """
    k, n = int(alive.sum()), len(alive)
    return (k * (k - 1) + (n - k) * (n - k - 1)) / (n * (n - 1))


def mass_stability(mass: Values) -> float:
    """Return 1 minus the mean Jensen-Shannon divergence (bits) between pairs of masses and their rests.

    Args:
        mass: [variants] probability of the concept, two or more.
    """
    first, second = np.triu_indices(len(mass), 1)
    p, q = np.clip(mass[first], 0, 1), np.clip(mass[second], 0, 1)
    divergence = _bits((p + q) / 2) - (_bits(p) + _bits(q)) / 2
    return float(1 - divergence.mean())


def _bits(p: Values) -> Values:
    """Entropy of yes or no, in bits."""
    parts = np.stack([p, 1 - p])
    logs = np.log2(parts, out=np.zeros_like(parts), where=parts > 0)
    found: Values = -(parts * logs).sum(0)
    return found


def _overlap(lists: Sequence[Sequence[int]]) -> Row:
    if len(lists) < 2:
        return {"rbo": None, "rbo_smallest": None, "rbo_largest": None}
    overlaps = [rank_biased_overlap(one, other) for one, other in combinations(lists, 2)]
    sizes = [len(one) for one in lists]
    return {"rbo": float(np.mean(overlaps)), "rbo_smallest": min(sizes), "rbo_largest": max(sizes)}
