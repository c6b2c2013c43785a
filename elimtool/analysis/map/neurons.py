"""Make the table of neurons of a map, and their counts by layer."""

from __future__ import annotations

import numpy as np

from elimtool.analysis.map.sums import Sums
from elimtool.files.rows import Row, Rows

ENOUGH = 10_000
"""Tokens from which a neuron is called dead or always on: 3 / n bounds what none of n can hide."""
SELDOM = 0.001
"""A dead neuron opens at no larger share of tokens, one that is always on is shut at no larger one."""
UNREAD = "its MLP is not single neurons, such as a mixture of experts, or cannot be read"


def neurons(sums: Sums) -> dict[str, Rows]:
    """Make the rows of ``neurons``."""
    return {"neurons": [row for layer in range(sums.n_layers) for row in of_layer(sums, layer)]}


def of_layer(sums: Sums, layer: int) -> Rows:
    """Make the rows of one layer; one row without a neuron where they are not known."""
    n = int(sums.total("neurons", "n")[layer])
    names = ("open", "below_1pct", "dead", "always_on")
    if n == 0:
        empty = dict.fromkeys(("neuron", *names))
        return [{"layer": layer, **empty, "n": 0, "unmeasured": UNREAD}]
    opened, below = (sums.total("neurons", f"{name}.{layer}") / n for name in ("open", "below"))
    dead, always = opened <= SELDOM, opened >= 1 - SELDOM
    known = n >= ENOUGH
    return [
        {
            "layer": layer,
            "neuron": neuron,
            "open": float(opened[neuron]),
            "below_1pct": float(below[neuron]),
            "dead": bool(dead[neuron]) if known else None,
            "always_on": bool(always[neuron]) if known else None,
            "n": n,
            "unmeasured": None,
        }
        for neuron in range(len(opened))
    ]


def counts(sums: Sums, layer: int) -> Row:
    """Sum up one layer's neurons: how many are dead and always on, and the mean share of tokens."""
    nothing: Row = dict.fromkeys(("dead", "always_on", "open"))
    if "neurons" not in sums.parts:
        return nothing
    rows = of_layer(sums, layer)
    if rows[0]["open"] is None:
        return nothing
    found: Row = {"open": float(np.mean([row["open"] for row in rows]))}
    for name in ("dead", "always_on"):
        found[name] = None if rows[0][name] is None else sum(row[name] for row in rows)
    return found
