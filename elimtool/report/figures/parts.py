"""Draw direct logit attribution at one position: promoters and eliminators as bars."""

from __future__ import annotations

from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Bar, Bars
from elimtool.report.figures.words import quoted

MOST = 10
"""Promoters, and also eliminators, that get a bar."""
NOTE = (
    "Direct logit attribution, centred over the vocabulary: right of zero promotes the token, left of it"
    " eliminates. It says what was written in the token's direction, not what caused it."
)


def components(probe: Probe, target: str | None = None) -> list[Bars]:
    """Draw each target's (or one target's) strongest promoters and eliminators, and the sum of the others."""
    found = probe.columns("components", ("target", "component", "dla_centred"))
    parts: dict[str, list[tuple[str, float]]] = {}
    for name, component, value in zip(*found.values(), strict=True):
        if value is not None and target in (None, name):
            parts.setdefault(name, []).append((component, value))
    return [
        Bars(
            name="components",
            title=f"What wrote for and against {quoted(name)}",
            note=NOTE,
            label_title="component",
            value_title="logits",
            bars=_bars(some),
        )
        for name, some in parts.items()
    ]


def _bars(parts: list[tuple[str, float]]) -> list[Bar]:
    ordered = sorted(parts, key=lambda part: -part[1])
    most = [part for part in ordered[:MOST] if part[1] > 0]
    least = [part for part in ordered[-MOST:] if part[1] < 0]
    rest = ordered[len(most) : len(ordered) - len(least)]
    others = [(f"{len(rest)} others", sum(value for _, value in rest))] if rest else []
    return [Bar(label=name, value=value) for name, value in [*most, *others, *least]]
