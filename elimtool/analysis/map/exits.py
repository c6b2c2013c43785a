"""Say where a model could stop early: thresholds chosen on one half of the passages, judged on the other."""

from __future__ import annotations

import numpy as np

from elimtool.analysis.map.sums import TEXT, Array, Sums
from elimtool.files.rows import Row, Rows

AGREEMENT = 0.95
"""Share of positions that are to have the output's first token where a threshold is chosen."""
RULES = {"softmax_diff": "lens.gap", "state": "lens.cos"}
"""Rules with a threshold (CALM, Schuster et al. 2022, arXiv 2207.07061) -> what they go by."""
CANDIDATES = 200
"""Thresholds that are tried: quantiles of what a rule goes by."""
NO_LENS = "the model has no fitted lens: make one with elimtool lens fit"


def exits(sums: Sums) -> Rows:
    """Make the rows of ``exits``.

    The states of layers that an exit would leave out are the true ones here; a model that exits has to copy
    them, so this is what it can reach at best.
    """
    nothing: Row = dict.fromkeys(("threshold", "mean_layer", "agreement"))
    if not sums.has("layers", "lens.same"):
        return [{"rule": rule, **nothing, "n": 0, "unmeasured": NO_LENS} for rule in (*RULES, "oracle")]
    same = sums.each("layers", "lens.same", TEXT)
    odd, even = _halves(same)
    found: Rows = []
    for rule, name in RULES.items():
        chosen, judged = _halves(sums.each("layers", name, TEXT))
        threshold = choose(chosen, odd)
        found.append({"rule": rule, "threshold": threshold} | _judged(first_over(judged, threshold), even))
    found.append({"rule": "oracle", "threshold": None} | _judged(first_over(even, 1.0), even))
    return found


def _halves(values: Array) -> tuple[Array, Array]:
    """Take apart the odd and the even passages that were read out, each [layers, positions]."""
    read = values[~np.isnan(values).all((1, 2))]
    parts = (np.concatenate(list(some), 1) for some in (read[::2], read[1::2]))
    odd, even = (one[:, ~np.isnan(one).any(0)] for one in parts)
    return odd, even


def first_over(values: Array, threshold: float) -> Array:
    """Return the first layer at which each position's value is the threshold or more, else the last.

    Args:
        values: [layers, positions].
        threshold: The threshold.
    """
    over = values >= threshold
    over[-1] = True
    found: Array = over.argmax(0)
    return found


def choose(values: Array, same: Array) -> float:
    """Return the smallest threshold whose exits agree with the output, up to ``AGREEMENT``.

    Args:
        values: What the rule goes by, [layers, positions].
        same: Whether the first token there is the output's, likewise.
    """
    for threshold in np.unique(np.quantile(values[:-1], np.linspace(0, 1, CANDIDATES))):
        at = first_over(values, float(threshold))
        if same[at, np.arange(same.shape[1])].mean() >= AGREEMENT:
            return float(threshold)
    return float(np.nextafter(values[:-1].max(), np.inf))  # none: all go on to the end


def _judged(at: Array, same: Array) -> Row:
    told = same[at, np.arange(same.shape[1])]
    return {
        "mean_layer": float(at.mean()), "agreement": float(told.mean()), "n": len(told), "unmeasured": None
    }  # fmt: skip
