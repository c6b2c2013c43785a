"""Plot rank and probability of the followed tokens by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Line, Lines, Mark
from elimtool.report.figures.words import quoted

EVENTS = ("entry", "commit", "lost")
MARKS_NOTE = "Entry: first layer in the top-10; commit: from there on to the end; lost: out for good."
RAW_NOTE = "Lens raw: probabilities mislead before the last layers, ranks less so."


def ranks(probe: Probe) -> list[Lines]:
    """Plot the rank of every followed token after each layer."""
    return _course(probe, "ranks", "rank", "Rank by layer", MARKS_NOTE)


def probabilities(probe: Probe) -> list[Lines]:
    """Plot the probability of every followed token after each layer."""
    return _course(probe, "probabilities", "prob", "Probability by layer", "")


def _course(probe: Probe, name: str, column: str, title: str, note: str) -> list[Lines]:
    followed: dict[tuple[bool, str, int], dict[int, Any]] = {}
    for row in probe.rows("lens"):
        key = (row["is_foil"], row["target"], row["token_id"])
        followed.setdefault(key, {})[row["layer"]] = row[column]
    layers = sorted({layer for values in followed.values() for layer in values})
    if not layers:
        return []
    marks = {row["target"]: _marks(row) for row in probe.rows("verdicts")}
    lines = [
        Line(
            name=quoted(target) + (" (foil)" if foil else ""),
            values=[values.get(layer) for layer in layers],
            is_foil=foil,
            marks=() if foil else marks.get(target, ()),
        )
        for (foil, target, _), values in sorted(followed.items(), key=lambda item: item[0][0])
    ]
    told = " ".join(part for part in (note, RAW_NOTE if probe.lens == "raw" else "") if part)
    unit = "prob" if column == "prob" else "rank"
    return [
        Lines(
            name=name, title=f"{title}, lens {probe.lens}", note=told, layers=layers, lines=lines, unit=unit
        )
    ]


def _marks(verdict: Row) -> Sequence[Mark]:
    found = ((event, verdict.get(f"{event}_layer")) for event in EVENTS)
    return [Mark(event, layer) for event, layer in found if layer is not None]
