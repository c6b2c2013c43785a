"""Set a sampler so that it keeps the right token with a chosen probability (split conformal prediction)."""

from __future__ import annotations

from math import ceil, floor, isfinite

import numpy as np
import pandas as pd

from elimtool.analysis.populations.coverage.sizes import Falloffs
from elimtool.analysis.statistics.base import CHOICES, LEVEL, Values, generator
from elimtool.files.rows import Row
from elimtool.run.reader import Run

ALPHAS = (0.05, 0.1, 0.2)
"""Shares of places where the right token may be lost."""


def conformal(places: pd.DataFrame, seed: int, run: Run | None = None) -> list[Row]:
    """Find conformal settings.

    Source: Vovk et al. 2005, split conformal prediction, with the least setting that keeps the right token as
    the score; Quach et al. 2024, "Conformal language modeling", for the use. Records must be exchangeable:
    one position of each prompt or text, drawn at random.

    Args:
        places: From ``gold_places``.
        seed: Seed of the positions.
        run: The run, for the number of tokens that a setting keeps; ``None`` to leave that unknown.
    """
    one = one_a_unit(places, seed)
    if one.empty:
        return []
    scores = {
        "top_p": one["min_top_p"].fillna(np.inf).to_numpy(float),
        "top_k": one["min_top_k"].fillna(np.inf).to_numpy(float),
        "min_p": -one["max_min_p"].fillna(-np.inf).to_numpy(float),
    }
    falloffs = None if run is None else Falloffs.of(run, places)
    return [
        _setting(sampler, values, alpha, falloffs) for alpha in ALPHAS for sampler, values in scores.items()
    ]


def one_a_unit(places: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw one place of each prompt or text."""
    draws = generator(seed, CHOICES).random(len(places))
    order = pd.Series(draws, index=places.index).groupby(places["prompt_id"], sort=False).idxmin()
    return places.loc[order.to_numpy()]


def quantile(scores: Values, alpha: float) -> float:
    """Return the conformal quantile: the ceil((n + 1)(1 - alpha))-th smallest score, else infinity."""
    place = ceil((len(scores) + 1) * (1 - alpha) - 1e-9)  # rounding: 0.9 times 10 is a little over 9
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else float("inf")


def guaranteed(n: int, alpha: float) -> tuple[float, float]:
    """Return the range that holds 95 % of the coverages of calibration sets of n records.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors": Beta(n + 1 - l, l),
    l = floor((n + 1) alpha), where no two scores are equal; else coverage is larger.
    """
    from scipy.stats import beta

    lost = floor((n + 1) * alpha + 1e-9)
    low, high = beta.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], n + 1 - lost, lost)
    return float(low), float(high)


def _setting(sampler: str, scores: Values, alpha: float, falloffs: Falloffs | None) -> Row:
    q, n = quantile(scores, alpha), len(scores)
    row: Row = {"alpha": alpha, "sampler": sampler, "n": n}
    known = isfinite(q)
    low, high = guaranteed(n, alpha) if known else (None, None)
    setting = None
    if known:
        # top-p keeps a token for every p above its infimum
        setting = min(float(np.nextafter(q, 2)), 1.0) if sampler == "top_p" else abs(q)
    return {
        **row,
        "setting": setting,
        "coverage_low": low,
        "coverage_high": high,
        "kept": float((scores <= q).mean()) if known else None,
        **_sizes(sampler, setting, falloffs),
    }


def _sizes(sampler: str, setting: float | None, falloffs: Falloffs | None) -> Row:
    names = ("mean_size", "size_low", "size_high")
    if setting is None or (sampler != "top_k" and falloffs is None):
        return dict.fromkeys(names)
    return (
        dict.fromkeys(names, setting)
        if falloffs is None or sampler == "top_k"
        else falloffs.sizes(sampler, setting)
    )
