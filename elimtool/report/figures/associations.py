"""Draw how well concepts are placed after each layer, with the band of sets as frequent."""

from __future__ import annotations

from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.figures.course import RAW_NOTE
from elimtool.report.figures.figure import Figure, Line, Lines, Listing
from elimtool.report.figures.words import SCREEN, label, quoted
from elimtool.report.trace.associations import (
    association_cells,
    association_sentence,
    by_concept,
    peak,
    pieces_of,
)

COLUMNS = ("layer", "best word", "its rank", "90 % of the sets", "p", "over all layers", "mass")


def associations(probe: Probe) -> list[Figure]:
    """Draw and list each concept by layer."""
    pieces = pieces_of(probe)
    found: list[Figure] = []
    for name, rows in by_concept(probe.rows("associations")).items():
        if peak(rows) is None:
            continue
        told = association_sentence(rows, SCREEN, pieces.get(name, {}))
        if probe.lens == "raw":
            told = f"{told} {RAW_NOTE}"
        lines = [Line(f"best word of {label(name)}", [row["best_rank"] for row in rows])]
        if any(row["control_rank"] is not None for row in rows):
            lines.append(
                Line(
                    "sets as frequent: middle and 90 %",
                    [row["control_rank"] for row in rows],
                    dashed=True,
                    low=[row["control_rank_low"] for row in rows],
                    high=[row["control_rank_high"] for row in rows],
                )
            )
        found += [
            Lines(
                name="associations",
                title=f"{quoted(name)} below the output, lens {probe.lens}",
                note=told,
                layers=[row["layer"] for row in rows],
                lines=lines,
                unit="rank",
            ),
            Listing(
                name="association_layers",
                title=f"{quoted(name)} layer by layer",
                note="p: share of the control sets that are as good there, and corrected for all layers.",
                columns=list(COLUMNS),
                rows=[[*_cells(row)] for row in rows],
            ),
        ]
    return found


def _cells(row: Row) -> list[str | float | None]:
    layer, _, *rest = association_cells(row)
    return [layer, "" if row["best_token"] is None else quoted(row["best_token"]), *rest, row["mass"]]
