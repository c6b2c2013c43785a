"""Find the runs of layers at which two groups differ."""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from elimtool.analysis.populations.audit.effects import Grids
from elimtool.analysis.populations.audit.outcomes import Outcome
from elimtool.analysis.populations.pairs import Pairs
from elimtool.analysis.statistics.clusters import Cluster, Skew, skew
from elimtool.analysis.statistics.crossed import FEWEST
from elimtool.files.rows import Rows


def skewed(outcome: Outcome, made: Grids, pairs: Pairs, seed: int) -> tuple[Rows, float] | None:
    """Test an outcome by layers.

    Args:
        outcome: An outcome with layers.
        made: Its grids.
        pairs: The pairs of records.
        seed: Seed of flips and draws.

    Returns:
        Rows of ``audit_layers`` without ``p_adjusted``, and the p-value of the outcome: that of its strongest
        run of layers over both kinds of units, 1 where there is none; ``None`` for fewer than six templates.
    """
    known = [(layer, one[0]) for layer, one in zip(outcome.layers, made, strict=True) if one is not None]
    if len(known) < 2 or len(known[0][1].templates) < FEWEST:
        return None
    layers = [layer for layer, _ in known]
    first = known[0][1]
    crossed = first.over_words and not first.nested
    found = skew(np.stack([grid.a - grid.b for _, grid in known], axis=2), crossed, seed)
    common = {
        "metric": outcome.metric,
        "target": outcome.target,
        "foil": outcome.foil,
        "category": None,
        "group_a": pairs.a,
        "group_b": pairs.b,
        "onset_low": None,
        "onset_high": None,
        "p_adjusted": None,
    }
    rows: Rows = []
    for unit, clusters in (("templates", found.templates), ("fillers", found.fillers or ())):
        for one in clusters:
            place = {"first_layer": layers[one.first], "last_layer": layers[one.last], "mass": one.mass}
            reaches = one.last == len(layers) - 1
            rows.append({**common, "unit": unit, **place, "p_value": one.p_value, "reaches_output": reaches})
    both = _both(found)
    for number, (start, end, p_value) in enumerate(both):
        onset = found.onset if not number else None
        row = {
            "first_layer": layers[start],
            "last_layer": layers[end],
            "mass": None,
            "p_value": p_value,
            "reaches_output": end == len(layers) - 1,
            "onset_low": None if onset is None else layers[floor(onset[0])],
            "onset_high": None if onset is None else layers[ceil(onset[1])],
        }
        rows.append({**common, "unit": "both", **row})
    return rows, min((p_value for _, _, p_value in both), default=1.0)


def _both(found: Skew) -> list[tuple[int, int, float]]:
    """List the runs of layers that are skewed over either kind of unit: first, last, the larger p-value."""
    runs: list[tuple[int, int, float]] = []
    for at, sign in enumerate(found.sign.tolist()):
        if not sign:
            continue
        of_units = [some for some in (found.templates, found.fillers) if some is not None]
        p_value = max(_p_at(some, at) for some in of_units)
        if runs and runs[-1][1] == at - 1 and found.sign[at - 1] == sign:
            runs[-1] = runs[-1][0], at, min(runs[-1][2], p_value)
        else:
            runs.append((at, at, p_value))
    return runs


def _p_at(clusters: tuple[Cluster, ...], at: int) -> float:
    return next(one.p_value for one in clusters if one.first <= at <= one.last)
