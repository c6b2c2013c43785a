"""Measure whether concepts are kept or cut alike in all variants of one thing, against sets as frequent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from elimtool.analysis.populations.sweep.grid import COLUMNS, place_of
from elimtool.analysis.statistics.rankings import rank_biased_overlap
from elimtool.files.rows import Row, Rows
from elimtool.run.reader import Run

ALL = "all"
NUCLEUS = 0.9
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]
Member = tuple[str, str]
"""Run and prompt of a variant."""


def stability_rows(runs: Mapping[str, Run]) -> Rows:
    """Make the rows of ``stability``: of the variants of each item, or with several runs of each prompt.

    Args:
        runs: Runs by name; none of its rows where a run lacks the table ``concepts``.
    """
    if not all("concepts" in run.tables for run in runs.values()):
        return []
    over = "variants" if len(runs) == 1 else "runs"
    keys = {key: some for key, some in _members(runs).items() if len(some) > 1}
    found: dict[tuple[Any, ...], dict[Member, dict[int, tuple[bool, float]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for name, run in runs.items():
        for row in _last(run, "concepts"):
            place = row["concept"], row["layer"], row["chain"], row["stage_index"], row["stage"]
            control = -1 if row["control"] is None else row["control"]
            found[place][name, row["prompt_id"]][control] = row["alive"], row["mass"]
    survivors = _survivors(runs)
    depth = max((layer for _, layer, *_ in found if layer is not None), default=None)
    rows: Rows = []
    for place, cells in found.items():
        concept, layer, chain, _, stage = place
        about = {"concept": concept, "over": over, "layer": layer, "chain": chain, "stage": stage}
        whole = {key: some for key, some in keys.items() if all(one in cells for one in some)}
        measured = [_Measured([cells[one] for one in some]) for some in whole.values()]
        for (key, some), one in zip(whole.items(), measured, strict=True):
            lists = [survivors[member] for member in some] if layer == depth and survivors else []
            rows.append({**about, "key": key, **_row([one]), **_overlap(lists)})
        if measured:
            every = [row for row in rows[-len(measured) :] if row["rbo"] is not None]
            overlap = _overlap([])
            if every:
                overlap["rbo"] = float(np.mean([row["rbo"] for row in every]))
                overlap["rbo_smallest"] = min(row["rbo_smallest"] for row in every)
                overlap["rbo_largest"] = max(row["rbo_largest"] for row in every)
            rows.append({**about, "key": ALL, **_row(measured), **overlap})
    return rows


def _members(runs: Mapping[str, Run]) -> dict[str, list[Member]]:
    """List the variants of each item, or the runs of each prompt."""
    found: dict[str, list[Member]] = defaultdict(list)
    for name, run in runs.items():
        for row in run.arrow("prompts").select([*COLUMNS]).to_pylist():
            place = place_of(row, ())
            if len(runs) > 1 and row["status"] == "ok":
                found[row["prompt_id"]].append((name, row["prompt_id"]))
            elif place is not None:
                found[place[1]].append((name, row["prompt_id"]))
    return found


def _last(run: Run, table: str) -> Rows:
    """Rows of a table at the last position of each prompt."""
    ends = {
        row["prompt_id"]: row["n_tokens"] - (row["n_written"] or 0) - 1
        for row in run.arrow("prompts").select(["prompt_id", "n_tokens", "n_written", "status"]).to_pylist()
        if row["status"] == "ok"
    }
    return [row for row in run.arrow(table).to_pylist() if ends.get(row["prompt_id"]) == row["position"]]


def _survivors(runs: Mapping[str, Run]) -> dict[Member, list[int]]:
    """List the tokens of each output's nucleus, as far as ``top_tokens`` goes; empty without the table."""
    if not all("top_tokens" in run.tables for run in runs.values()):
        return {}
    found: dict[Member, list[int]] = defaultdict(list)
    mass: dict[Member, float] = defaultdict(float)
    for name, run in runs.items():
        for row in sorted(_last(run, "top_tokens"), key=lambda row: row["place"]):
            member = name, row["prompt_id"]
            if mass[member] < NUCLEUS - 1e-9:  # sums of probabilities round
                found[member].append(row["token_id"])
                mass[member] += row["prob"]
    return found


class _Measured:
    """What the variants of one thing have: alive and mass of the concept and of its control sets."""

    def __init__(self, cells: Sequence[Mapping[int, tuple[bool, float]]]) -> None:
        self.n = len(cells)
        controls = sorted(set.intersection(*(set(one) for one in cells)) - {-1})
        self.alive = np.array([one[-1][0] for one in cells])
        self.mass = np.array([one[-1][1] for one in cells])
        self.controls = [agreement(np.array([one[each][0] for one in cells])) for each in controls]


def _row(measured: Sequence[_Measured]) -> Row:
    """Average over keys; flips and counts are summed."""
    own = float(np.mean([agreement(one.alive) for one in measured]))
    count = min(len(one.controls) for one in measured)
    controls = np.mean([one.controls[:count] for one in measured], axis=0) if count else None
    return {
        "n": sum(one.n for one in measured),
        "membership": float(np.mean([one.alive.mean() for one in measured])),
        "agreement": own,
        "flips": int(sum((one.alive != one.alive[0]).sum() for one in measured)),
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
