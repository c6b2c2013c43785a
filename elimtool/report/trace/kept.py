"""Show what several positions attend to: the share of each span, position by position."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from elimtool.files.rows import Row
from elimtool.prompts.prompt import SINK
from elimtool.report.facts import Tables
from elimtool.report.numbering import Numbering
from elimtool.report.numbers import mean, share
from elimtool.report.screen import Screen, padded

MOST_POSITIONS = 40
MOST_SPANS = 6
"""Spans that a table has columns for; more are single tokens or sentences."""
WORD = 14
CELL = 12
LEFT = 9 + 2 + WORD


def kept_lines(tables: Tables, prompt: Row, places: Numbering, screen: Screen) -> list[Text]:
    """One line a position: the attention that each span keeps of what the sinks leave, and its even share.

    Nothing for a single position, or where the spans are single tokens or sentences.
    """
    found: dict[int, dict[str, list[Row]]] = {}
    names: dict[str, None] = {}
    if len(places.positions) < 2 or len(prompt["spans"] or ()) > MOST_SPANS + 1:
        return []
    for position in places.positions[:MOST_POSITIONS]:
        for row in tables.rows("attention", prompt["prompt_id"], position):
            if row["span"] != SINK and row["mass_no_sink"] is not None:
                names[row["span"]] = None
                found.setdefault(position, {}).setdefault(row["span"], []).append(row)
    if not found:
        return []
    shown = list(names)[: max((screen.width - LEFT) // (CELL + 1), 1)]
    lines = screen.titled(
        f"Attention {'at each written token' if places.first is not None else 'by position'}",
        "share of what the sinks leave, mean over heads and layers; in brackets the share that the span would"
        " have if attention were even over the tokens that are no sinks",
    )
    heads = "".join(padded(screen.shorten(screen.visible(one), CELL), CELL + 1, right=True) for one in shown)
    lines.append(
        Text((padded(places.word, 9, right=True) + padded("", WORD + 2) + heads).rstrip(), style="dim")
    )
    for position, spans in found.items():
        line = padded(f"{places.number(position):,}", 9, right=True) + "  "
        line += padded(screen.quoted(places.token(prompt, position), WORD), WORD)
        line += "".join(padded(_share(spans.get(name, ())), CELL + 1, right=True) for name in shown)
        lines.append(Text(line.rstrip()))
    if len(places.positions) > MOST_POSITIONS:
        lines.append(Text(f"  {len(places.positions) - MOST_POSITIONS:,} more positions", style="dim"))
    return lines


def _share(rows: Sequence[Row]) -> str:
    """Mean share of a span over layers, and in brackets what an even spread would give it."""
    if not rows:
        return "-"
    # a lift is the share over the even share, so a layer without attention on the span does not tell it
    even = mean(row["mass_no_sink"] / row["lift_no_sink"] for row in rows if row["lift_no_sink"])
    told = share(mean(row["mass_no_sink"] for row in rows))
    return told if even is None else f"{told} ({share(even)})"
