"""Make the tables of layers of a map: what each changes, what is lost without it, where one could exit."""

from __future__ import annotations

import numpy as np

from elimtool.analysis.map.exits import exits
from elimtool.analysis.map.neurons import counts
from elimtool.analysis.map.sums import TEXT, WHOLE, Array, Sums
from elimtool.analysis.map.units import interval, ratio_interval
from elimtool.files.rows import Row, Rows

OVER_READ = ("skip_kl", "skip_nll", "skip_agree", "exit_agree", "saturated")


def layers(sums: Sums) -> dict[str, Rows]:
    """Make the rows of ``layers`` and ``exits``."""
    columns = _linear(sums)
    for name, values in measured(sums).items():
        columns[name], low, high = interval(values[~np.isnan(values).any(1)])
        if name in ("influence", "skip_kl"):
            columns |= {f"{name}_low": low, f"{name}_high": high}
    sinks, rows = (sums.each("layers", f"sink.{name}", TEXT).sum(0) for name in ("cos", "rows"))
    columns["influence_sink"] = 1 - _ratio(sinks, rows)
    n_read = int((sums.each("layers", "read", TEXT)[:, 0] > 0).sum())
    found: Rows = []
    for layer in range(sums.n_layers):
        row: Row = {"layer": layer}
        row |= {
            name: None if np.isnan(values[layer]) else float(values[layer])
            for name, values in columns.items()
        }
        found.append(row | _sizes(sums, layer) | counts(sums, layer) | {"n_read": n_read})
    return {"layers": found, "exits": exits(sums)}


def _linear(sums: Sums) -> dict[str, Array]:
    """Return how much of each layer is a linear map: held out with intervals, and as it is published."""
    if not sums.of(WHOLE):
        return dict.fromkeys(LINEAR, np.full(sums.n_layers, np.nan))
    found: dict[str, Array] = {}
    for name, kind in (("linearity", ""), ("update_linearity", "update.")):
        error, spread = (sums.each("layers", f"{kind}{one}", WHOLE)[0] for one in ("error", "spread"))
        left, low, high = ratio_interval(error, spread)
        found |= {name: 1 - left, f"{name}_low": 1 - high, f"{name}_high": 1 - low}
    return found | {"linearity_published": 1 - sums.each("layers", "published", WHOLE)[0]}


LINEAR = ("linearity", "linearity_low", "linearity_high", "update_linearity", "update_linearity_low",
          "update_linearity_high", "linearity_published")  # fmt: skip


def measured(sums: Sums) -> dict[str, Array]:
    """Return the numbers that are means over passages, each [passages, layers]; NaN for one without rows."""
    return {
        "influence": 1 - _mean(sums, "cos", "rows"),
        "angular": _mean(sums, "angle", "rows"),
        **{name: _mean(sums, name, "read") for name in OVER_READ},
    }


def _ratio(total: Array, rows: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rows > 0, total / rows, np.nan)


def _mean(sums: Sums, name: str, rows: str) -> Array:
    """Average over the rows of each unit, [units, layers]; NaN for a unit without any."""
    return _ratio(sums.each("layers", name, TEXT), sums.each("layers", rows, TEXT))


def _sizes(sums: Sums, layer: int) -> Row:
    """Tell the largest number of all passages, and of the same passage what goes with it."""
    largest, position, channel, median, massive, elsewhere = (
        sums.each("layers", name, TEXT)[:, layer]
        for name in ("max_abs", "max_position", "max_channel", "median", "n_massive", "max_elsewhere")
    )
    at = int(largest.argmax())
    return {
        "max_abs": float(largest[at]),
        "max_position": int(position[at]),
        "max_channel": int(channel[at]),
        "max_ratio": float(largest[at] / median[at]) if median[at] > 0 else None,
        "n_massive": int(massive[at]),
        "max_abs_elsewhere": float(elsewhere.max()),
    }
