"""Make the findings of a map: each part's tables of its sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from elimtool.analysis.map.categories import categories
from elimtool.analysis.map.distances import distances
from elimtool.analysis.map.examples import examples
from elimtool.analysis.map.layers import layers
from elimtool.analysis.map.neurons import neurons
from elimtool.analysis.map.redundancy import redundancy
from elimtool.analysis.map.roles import ANSWERED, answered, roles
from elimtool.analysis.map.sums import Sums
from elimtool.files.rows import Rows
from elimtool.run.analysis import Analysis
from elimtool.run.reader import Run
from elimtool.run.tables.findings import FINDINGS

FOUND: dict[str, Callable[[Sums], Mapping[str, Rows]]] = {
    "roles": roles,
    "categories": categories,
    "distances": distances,
    "redundancy": redundancy,
    "neurons": neurons,
    "layers": layers,
    "examples": examples,
}
"""Part -> the rows of its tables, made of the sums."""

SEED = 0
"""Seed of every interval and p-value of a map."""


def find_map(run: Run) -> Analysis:
    """Make the findings of a map's run; imports no torch.

    Args:
        run: The run; parts that were left out have empty tables.

    Raises:
        ElimError: The run is not one of a map.
    """
    sums = Sums(run)
    rows: dict[str, Rows] = {}
    for part in sums.parts:
        rows |= FOUND[part](sums)
    tables = {name: table.from_rows(rows.get(name, [])) for name, table in FINDINGS["map"].items()}
    return Analysis.of("map", run.manifest, tables, sums.asked, SEED, _notes(sums))


def _notes(sums: Sums) -> list[str]:
    """Say what was left out, and what could not be measured."""
    failed = sums.run.arrow("prompts").num_rows - len(sums.units)
    told = [f"{failed:,} passages or probes failed and are in no number"] if failed else []
    if "roles" in sums.parts and (share := answered(sums)) is not None and share < ANSWERED:
        told.append(
            f"retrieval cannot be measured: the model itself says {share:.0%} of the answers' tokens, fewer"
            f" than {ANSWERED:.0%}"
        )
    return told
