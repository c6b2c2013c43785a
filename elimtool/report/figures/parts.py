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
    """Draw each target's (or one target's) strongest promoters and eliminators."""
    found = probe.columns("components", ("target", "component", "dla_centred"))
    parts: dict[str, list[tuple[str, float]]] = {}
    for name, component, value in zip(*found.values(), strict=True):
        if value is not None and target in (None, name):
            parts.setdefault(name, []).append((component, value))
    return [
        drawn("components", f"What wrote for and against {quoted(name)}", NOTE, "logits", some)
        for name, some in parts.items()
    ]


def drawn(name: str, title: str, note: str, unit: str, parts: list[tuple[str, float]]) -> Bars:
    """Draw the strongest parts of one target or contrast.

    Args:
        name: Name of the figure.
        title: Its title.
        note: What its values mean; what the parts without a bar sum to is added.
        unit: Unit of the values.
        parts: Names and signed values.
    """
    bars, others = strongest(parts)
    return Bars(
        name=name,
        title=title,
        note=f"{note}{others}",
        label_title="component",
        value_title=unit,
        bars=bars,
    )


def strongest(parts: list[tuple[str, float]]) -> tuple[list[Bar], str]:
    """Make a bar for each of the strongest parts on either side of zero, and say what the others sum to.

    Together the others may be longer than any single part, so they get no bar.

    Args:
        parts: Names and signed values.
    """
    ordered = sorted(parts, key=lambda part: -part[1])
    most = [part for part in ordered[:MOST] if part[1] > 0]
    least = [part for part in ordered[-MOST:] if part[1] < 0]
    rest = [value for _, value in ordered[len(most) : len(ordered) - len(least)]]
    sides = {"right": [one for one in rest if one > 0], "left": [one for one in rest if one < 0]}
    said = [f"{len(side):,} {word} of zero sum to {sum(side):+.1f}" for word, side in sides.items() if side]
    others = f" Not drawn: the others, of which {' and '.join(said)}." if said else ""
    return [Bar(label=name, value=value) for name, value in [*most, *least]], others
