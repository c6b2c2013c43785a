"""List the spans of a long or structured prompt with their retention by band; of many, the extremes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from elimtool.prompts.prompt import SINK
from elimtool.report.numbers import HEAT, heat_step, share, times
from elimtool.report.screen import Screen, isolated, padded
from elimtool.report.trace.heat import Band, SpanHeat

ALL_SHOWN = 12
"""Up to this many spans are all shown, in order; of more, the ``TOP`` and ``BOTTOM`` ones."""
TOP, BOTTOM = 5, 3
CELL = 8
FEW_BANDS = 3


def span_lines(heats: Sequence[SpanHeat], layers: Sequence[Band], screen: Screen) -> list[Text]:
    """Draw a table of spans with a heat cell for each band, and the sink's share below."""
    chosen = _columns(len(layers), screen.width)
    room = max(screen.width - 8 - CELL * len(chosen), 6)
    names = [isolated(screen.shorten(screen.visible(heat.name), room)) for heat in heats]
    width = max([cell_len(name) for name in names] + [8])
    head = padded("span", width) + padded("tokens", 8, right=True)
    head += "".join(padded(layers[i].label, CELL, right=True) for i in chosen)
    lines = [Text(head, style="dim")]
    shown, dropped = _chosen(heats)
    for place, index in enumerate(shown):
        if dropped and place == TOP:
            lines.append(Text(f"{screen.glyph('…')} {dropped:,} more spans between", style="dim"))
        lines.append(_line(names[index], heats[index], width, chosen, screen))
    sink = padded(SINK, width + 8) + "".join(
        padded(share(layers[i].sink_mass), CELL, right=True) for i in chosen
    )
    return [*lines, Text(sink, style="dim"), *_legend(heats, bool(dropped), screen)]


def _columns(count: int, width: int) -> list[int]:
    """Indices of the bands that fit: all, or the first, the middle and the last."""
    if 16 + 8 + CELL * count <= width or count <= FEW_BANDS:
        return list(range(count))
    return [0, count // 2, count - 1]


def _chosen(heats: Sequence[SpanHeat]) -> tuple[list[int], int]:
    """Indices of the spans to show, all in order or the extremes by retention, and how many are left out."""
    if len(heats) <= ALL_SHOWN:
        return list(range(len(heats))), 0
    ordered = sorted(range(len(heats)), key=lambda index: -(heats[index].overall or 0.0))
    return ordered[:TOP] + ordered[-BOTTOM:], len(heats) - TOP - BOTTOM


def _line(name: str, heat: SpanHeat, width: int, chosen: Sequence[int], screen: Screen) -> Text:
    line = Text(padded(name, width) + padded(f"{heat.size:,}", 8, right=True))
    for index in chosen:
        lift = heat.lifts[index]
        if lift is None:
            line.append(padded("?" if heat.visible[index] else "x", CELL, right=True), style="dim")
            continue
        step = heat_step(lift)
        line.append(padded(f"{screen.steps[step]} {times(lift)}", CELL, right=True), style=HEAT[step])
    return line


def _legend(heats: Sequence[SpanHeat], extremes: bool, screen: Screen) -> list[Text]:
    notes = ["1.0x: as much as an even share among the tokens that are no sinks."]
    if extremes:
        notes.append("Spans in order of what they kept.")
    if any(not seen for heat in heats for seen in heat.visible):
        notes.append("x: outside the layers' window (masked, not eliminated).")
    return screen.wrap(" ".join(notes), style="dim")
