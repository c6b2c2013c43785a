"""Average attention by span and band of layers, for the strip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from elimtool.files.rows import Row
from elimtool.prompts.prompt import SINK
from elimtool.report.facts import Probe
from elimtool.report.numbers import mean

SINGLE = re.compile(r"(\d+):")


@dataclass(frozen=True)
class Band:
    """Consecutive layers read together.

    Attributes:
        first: First layer.
        last: Last layer.
        sink_mass: Mean share of attention on the sink set.
    """

    first: int
    last: int
    sink_mass: float | None

    @property
    def label(self) -> str:
        """``6-11``, or ``6`` for a single layer."""
        return f"{self.first}-{self.last}" if self.last > self.first else f"{self.first}"


@dataclass(frozen=True)
class SpanHeat:
    """Attention that one span kept.

    Attributes:
        name: Name of the span.
        token: Index of its one token; None for a span that is not named after a single token.
        size: Tokens of the span that the query sees, the largest number over layers.
        lifts: Sink-excluded lift per band, 1 = an even share; None where it cannot be measured.
        visible: Per band, whether any of its layers sees the span.
    """

    name: str
    token: int | None
    size: int
    lifts: tuple[float | None, ...]
    visible: tuple[bool, ...]

    @property
    def overall(self) -> float | None:
        """Mean lift over bands."""
        return mean(self.lifts)

    @property
    def unmeasured(self) -> bool:
        """Whether a band sees the span but has no lift for it, because the sink takes all attention."""
        return any(seen and lift is None for lift, seen in zip(self.lifts, self.visible, strict=True))


def bands(probe: Probe, most: int) -> list[Band]:
    """Divide the layers into at most ``most`` bands of nearly equal size, early layers first."""
    rows = [row for row in probe.rows("attention_layers") if row.get("no_weights") is None]
    rows.sort(key=lambda row: int(row["layer"]))
    if not rows:  # a run without this table: the sink is a span of the other one
        sinks = {row["layer"]: row["mass"] for row in probe.rows("attention") if row["span"] == SINK}
        layers = sorted({int(row["layer"]) for row in probe.rows("attention")})
        rows = [{"layer": layer, "sink_mass": sinks.get(layer)} for layer in layers]
    count = min(most, len(rows))
    borders = [round(index * len(rows) / count) for index in range(count + 1)] if count else []
    return [
        Band(rows[start]["layer"], rows[end - 1]["layer"], mean(row["sink_mass"] for row in rows[start:end]))
        for start, end in pairwise(borders)
    ]


def span_heat(probe: Probe, layers: Sequence[Band]) -> list[SpanHeat]:
    """Attention that each span but the sink kept, in prompt order; spans that no layer sees are left out."""
    spans: dict[str, list[Row]] = {}
    for row in probe.rows("attention"):
        if row["span"] != SINK:
            spans.setdefault(row["span"], []).append(row)
    tokens = probe.tokens
    heats = [_span(name, rows, layers, tokens) for name, rows in spans.items()]
    return [heat for heat in heats if heat.size]


def _span(name: str, rows: Sequence[Row], layers: Sequence[Band], tokens: Sequence[str]) -> SpanHeat:
    inside = [[row for row in rows if band.first <= row["layer"] <= band.last] for band in layers]
    return SpanHeat(
        name=name,
        token=token_index(name, tokens),
        size=max((row["span_size"] for row in rows), default=0),
        lifts=tuple(mean(row["lift_no_sink"] for row in some) for some in inside),
        visible=tuple(any(row["span_size"] for row in some) for some in inside),
    )


def token_index(name: str, tokens: Sequence[str]) -> int | None:
    """Index of the token that a span of one token is named after (``3: France``)."""
    found = SINGLE.match(name)
    index = int(found.group(1)) if found else len(tokens)
    # a user's own span may also begin with digits and a colon: only the exact name counts
    return index if index < len(tokens) and name == f"{index}:{tokens[index]}" else None
