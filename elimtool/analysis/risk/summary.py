"""Sum up the risk scores of a run: the least certain answers, and whether scores tell wrong from right."""

from __future__ import annotations

from typing import Any

import numpy as np

from elimtool.analysis.statistics.auroc import auroc
from elimtool.files.rows import Rows
from elimtool.run.reader import Run

SCORES = {"semantic_entropy": 1, "eigenscore": 1, "rauq": 1, "mean_logprob": -1, "lookback": -1}
"""Scores of table ``risk``: 1 where larger is less certain, -1 where smaller is."""
SHOWN = 3


def risk_summary(run: Run) -> dict[str, Any]:
    """Sum up table ``risk``, as JSON's own types.

    Args:
        run: A run with the table.

    Returns:
        ``n``, the answers; ``n_correct`` and ``n_wrong`` among those with a known right answer; ``scores``,
        for each score its median and, where both kinds are known, how well it tells wrong from right:
        ``auroc``, ``ci_low`` and ``ci_high``, else null; ``least_certain``, the prompts with the largest
        semantic entropy (of equal ones the largest RAUQ), with the ``percentile`` of both in the run.
    """
    table = run.table("risk")
    known = table[table["correct"].notna()]
    right = known["correct"].astype(bool)
    scores = {}
    for name, sign in SCORES.items():
        values = table[name].dropna()
        sides = [(sign * known.loc[side, name].dropna()).to_numpy(float) for side in (~right, right)]
        told = auroc(*sides) or (None, None, None)
        scores[name] = {
            "median": float(values.median()) if len(values) else None,
            **dict(zip(("auroc", "ci_low", "ci_high"), told, strict=True)),
        }
    return {
        "n": len(table),
        "n_correct": int(right.sum()),
        "n_wrong": int((~right).sum()),
        "scores": scores,
        "least_certain": _least_certain(table),
    }


def _least_certain(table: Any) -> Rows:
    ranked = table.sort_values(
        ["semantic_entropy", "rauq"], ascending=False, kind="stable", na_position="last"
    ).head(SHOWN)
    return [
        {
            "prompt_id": row["prompt_id"],
            **{
                key: {
                    "value": float(row[key]),
                    "percentile": percentile(table[key].to_numpy(float), row[key]),
                }
                for key in ("semantic_entropy", "rauq")
                if not np.isnan(row[key])
            },
        }
        for _, row in ranked.iterrows()
    ]


def percentile(values: Any, value: float) -> float:
    """Return the share of values below a value, ties counting half, in per cent."""
    present = values[~np.isnan(values)]
    return float(100 * ((present < value).mean() + (present == value).mean() / 2))
