"""Summarise a comparison: how much changed, what moved most, where the sides differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from elimtool.run.comparison import Comparison

MOVED = 5
"""Prompts that are named."""
SIGNIFICANT = 0.05
"""Largest q-value that is reported as a difference."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """A count out of a total."""

    count: int
    of: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A target of a pair that moved far.

    Attributes:
        pair_id: The pair.
        target: The target.
        before: ``rank``, ``prob`` and ``outcome`` on side A.
        after: The same on side B.
        move: Log-probability on B minus that on A (nats).
    """

    pair_id: str
    target: str
    before: dict[str, Any]
    after: dict[str, Any]
    move: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a comparison.

    Attributes:
        pairs: Pairs that were compared, of all without controls.
        outputs: Pairs whose most probable token changed, of those where it is known.
        outcomes: Targets whose outcome changed, of all compared.
        turns: ``(outcome on A, outcome on B)`` -> number of targets that changed so, most first.
        survived: Number of targets that survived on A, and on B.
        moved: Targets that moved most, one per pair, the farthest first.
        flips: ``(side that eliminates, where)`` -> tokens; ``where`` is a layer, or a chain and its stage.
        layers: Layer -> mean over pairs of the divergence of the distributions (bits) if it was measured,
            else of the absolute difference of the targets' log-probability (nats), else the share of pairs
            whose most probable token differs.
        layers_of: Which of these: ``js``, ``logprob`` or ``top``.
        differs: Whether anything at all differs.
    """

    pairs: Proportion
    outputs: Proportion
    outcomes: Proportion
    turns: dict[tuple[str, str], int]
    survived: tuple[int, int]
    moved: tuple[Moved, ...]
    flips: dict[tuple[str, str], int]
    layers: dict[int, float]
    layers_of: str
    differs: bool


def summary(comparison: Comparison) -> Summary:
    """Summarise a comparison."""
    pairs = comparison.table("pairs")
    pairs = pairs[pairs["control"].isna()]
    known = pairs["output_changed"].dropna()
    verdicts = _rows(comparison, "verdict_differences", pairs)
    changed = verdicts[verdicts["changed"].fillna(False)] if len(verdicts) else verdicts
    turns = changed.groupby(["outcome_a", "outcome_b"]).size() if len(changed) else pd.Series(dtype=int)
    layers, layers_of = _layers(comparison, pairs)
    return Summary(
        Proportion(int((pairs["status"] == "ok").sum()), len(pairs)),
        Proportion(int(known.sum()), len(known)),
        Proportion(len(changed), len(verdicts)),
        {key: int(n) for key, n in turns.sort_values(ascending=False, kind="stable").items()},  # type: ignore[misc]
        _survived(verdicts),
        _moved(verdicts),
        _flips(_rows(comparison, "flips", pairs)),
        layers,
        layers_of,
        differs(comparison),
    )


def _rows(comparison: Comparison, name: str, pairs: pd.DataFrame) -> pd.DataFrame:
    """Read a table without the rows of controls; empty if there is none."""
    if name not in comparison.tables:
        return pd.DataFrame()
    rows = comparison.table(name)
    return rows[rows["pair_id"].isin(pairs["pair_id"])].reset_index(drop=True)


def _survived(verdicts: pd.DataFrame) -> tuple[int, int]:
    if verdicts.empty:
        return 0, 0
    return int((verdicts["outcome_a"] == "survived").sum()), int((verdicts["outcome_b"] == "survived").sum())


def _moved(verdicts: pd.DataFrame) -> tuple[Moved, ...]:
    """Find the target of each pair that moved most, and of these the farthest."""
    if verdicts.empty:
        return ()
    moves = verdicts["final_logprob_difference"].abs().fillna(0)
    rows = verdicts.assign(far=moves)[moves > 0].sort_values("far", ascending=False, kind="stable")
    rows = rows.drop_duplicates("pair_id").head(MOVED)
    return tuple(
        Moved(
            str(row["pair_id"]),
            str(row["target"]),
            _side(row, "a"),
            _side(row, "b"),
            float(row["final_logprob_difference"]),
        )
        for _, row in rows.iterrows()
    )


def _side(row: pd.Series[Any], side: str) -> dict[str, Any]:
    names = {"rank": f"final_rank_{side}", "prob": f"final_prob_{side}", "outcome": f"outcome_{side}"}
    return {name: row[column] for name, column in names.items()}


def _flips(rows: pd.DataFrame) -> dict[tuple[str, str], int]:
    if rows.empty:
        return {}
    staged = rows["where"] == "stage"
    words = rows["where"].where(~staged, rows["stage"].fillna("") + " of " + rows["chain"].fillna(""))
    layered = rows["where"] == "layer"
    words = words.where(~layered, "layer " + rows["layer"].astype("str"))
    counts = words.groupby([rows["eliminated_in"], words]).size().sort_values(ascending=False, kind="stable")
    keys: list[Any] = counts.index.tolist()
    return {(str(side), str(where)): int(n) for (side, where), n in zip(keys, counts, strict=True)}


def _layers(comparison: Comparison, pairs: pd.DataFrame) -> tuple[dict[int, float], str]:
    for name, column, said in (
        ("divergence", "js", "js"),
        ("lens_differences", "logprob_difference", "logprob"),
        ("layer_differences", "top_changed", "top"),
    ):
        rows = _rows(comparison, name, pairs)
        rows = rows[rows["layer"].notna()] if len(rows) else rows
        if len(rows) and rows[column].notna().any():
            far = rows[column].astype("float64").abs().replace(np.inf, np.nan)
            means = far.groupby(rows["layer"]).mean().dropna()
            return {int(layer): float(mean) for layer, mean in means.items()}, said  # type: ignore[call-overload]
    return {}, "logprob"


def differs(comparison: Comparison) -> bool:
    """Return whether any number of the two sides differs."""
    for name in comparison.tables:
        rows = comparison.table(name)
        sides = [str(column)[:-2] for column in rows if str(column).endswith("_a")]
        for side in sides:
            if side in _INCIDENTAL or f"{side}_b" not in rows:
                continue
            a, b = rows[f"{side}_a"], rows[f"{side}_b"]
            if bool(((a != b) & ~(a.isna() & b.isna())).fillna(True).any()):
                return True
    return False


_INCIDENTAL = ("prompt_id", "text", "token_id", "stage_index", "params", "only", "mean")
"""Columns that may differ although nothing measured does."""
