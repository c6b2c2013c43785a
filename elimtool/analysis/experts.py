"""Sum up how routers used the experts of a mixture: what they dropped, and how the load was spread."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from elimtool.files.rows import Row, Rows


def by_layer(experts: Any) -> Rows:
    """Sum up a table ``experts`` by layer.

    Args:
        experts: Rows of the table, of one prompt or many.

    Returns:
        For each layer, in order, ``layer``, ``n_experts``, ``n_chosen`` (experts that ran for each position,
        mean), ``dropped`` (share of the router's scores on experts that did not, mean over positions; None
        where not known), and ``busiest`` and ``busiest_share`` (the expert that ran most often, and for
        which share of the positions), ``n_idle`` (experts that never ran).
    """
    told: Rows = []
    whole = pa.table(
        {
            "layer": experts.column("layer"),
            "expert": experts.column("expert"),
            "ran": pc.cast(experts.column("chosen"), pa.int64()),
            "dropped": experts.column("dropped_mass"),
        }
    )
    loads = whole.group_by(["layer", "expert"]).aggregate(
        [("ran", "sum"), ("ran", "count"), ("dropped", "mean")]
    )
    layers: dict[int, Rows] = {}
    for row in loads.sort_by([("layer", "ascending"), ("expert", "ascending")]).to_pylist():
        layers.setdefault(row["layer"], []).append(row)
    for layer, rows in layers.items():
        n_positions = rows[0]["ran_count"]
        busiest: Row = max(rows, key=lambda row: row["ran_sum"])
        told.append(
            {
                "layer": layer,
                "n_experts": len(rows),
                "n_chosen": sum(row["ran_sum"] for row in rows) / n_positions,
                "dropped": rows[0]["dropped_mean"],
                "busiest": busiest["expert"],
                "busiest_share": busiest["ran_sum"] / n_positions,
                "n_idle": sum(row["ran_sum"] == 0 for row in rows),
            }
        )
    return told


def dropped_in_words(layers: Rows) -> str:
    """Say what share of the routers' scores went to experts that did not run; empty where it is not known."""
    known = [row for row in layers if row["dropped"] is not None]
    if not known:
        return ""
    mean = sum(row["dropped"] for row in known) / len(known)
    most: Row = max(known, key=lambda row: row["dropped"])
    n_chosen, n_experts = round(known[0]["n_chosen"]), known[0]["n_experts"]
    ran = "1 expert" if n_chosen == 1 else f"{n_chosen} experts"
    said = f"{ran} of {n_experts} ran in each of {len(known):,} layers; the others had {mean:.0%}"
    said += " of the router's scores"
    return said if len(known) == 1 else f"{said}, most at layer {most['layer']} ({most['dropped']:.0%})"
