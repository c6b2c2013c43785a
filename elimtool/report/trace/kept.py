"""Show what several positions attend to: the share of each span, position by position."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from elimtool.files.rows import Row
from elimtool.prompts.prompt import SINK
from elimtool.report.facts import Tables
from elimtool.report.numbers import share
from elimtool.report.screen import Screen, padded

MOST_POSITIONS = 40
MOST_SPANS = 6
"""Spans that a table has columns for; more are single tokens or sentences."""
WORD = 14


def kept_lines(tables: Tables, prompt: Row, positions: Sequence[int], screen: Screen) -> list[Text]:
    """One line a position: the attention that each span keeps of what the sinks leave, mean over layers.

    Nothing for a single position, or where the spans are single tokens or sentences.
    """
    found: dict[int, dict[str, list[float]]] = {}
    names: dict[str, None] = {}
    if len(positions) < 2 or len(prompt["spans"] or ()) > MOST_SPANS + 1:
        return []
    for position in positions[:MOST_POSITIONS]:
        for row in tables.rows("attention", prompt["prompt_id"], position):
            if row["span"] != SINK and row["mass_no_sink"] is not None:
                names[row["span"]] = None
                found.setdefault(position, {}).setdefault(row["span"], []).append(row["mass_no_sink"])
    if not found:
        return []
    width = max(min(12, (screen.width - 8 - WORD) // len(names) - 1), 5)
    lines = screen.titled(
        "Attention by position",
        "share of what the sinks leave, mean over heads and layers; the token is the one predicted there",
    )
    shown = [screen.shorten(screen.visible(one), width) for one in names]
    columns = "".join(padded(one, width + 1, right=True) for one in shown)
    lines.append(Text((padded("", 6) + padded("then", WORD + 1) + columns).rstrip(), style="dim"))
    for position, spans in found.items():
        after = prompt["tokens"][position + 1 : position + 2]
        line = padded(f"{position:,}", 5, right=True) + " "
        line += padded(screen.quoted(after[0], WORD) if after else "", WORD + 1)
        for name in names:
            some = spans.get(name)
            told = share(sum(some) / len(some)) if some else "-"
            line += padded(told, width + 1, right=True)
        lines.append(Text(line.rstrip()))
    if len(positions) > MOST_POSITIONS:
        lines.append(Text(f"  {len(positions) - MOST_POSITIONS:,} more positions", style="dim"))
    return lines
