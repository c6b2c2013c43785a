"""Read the rows of ``locations`` as grids."""

from __future__ import annotations

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Probe

Grid = dict[tuple[int, int], Row]
"""The row that covers each (layer, position)."""


def locations(probe: Probe) -> Rows:
    """Rows of the table of a prompt, at all positions; none where the run has no such table."""
    if "locations" not in probe.run.tables:
        return []
    names = probe.run.arrow("locations").column_names
    columns = probe.of_prompt("locations", names)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def by_cell(rows: Rows, site: str) -> Grid:
    """Look up the row that covers each layer and position, single cells before stretches."""
    found: Grid = {}
    own = [row for row in rows if row["site"] == site and row["extent"] != "changed"]
    for row in sorted(own, key=lambda row: str(row["extent"]) == "cell"):
        for layer in range(row["layer"], row["last_layer"] + 1):
            for position in range(row["position"], row["last_position"] + 1):
                found[layer, position] = row
    return found
