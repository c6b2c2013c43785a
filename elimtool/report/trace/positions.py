"""List the positions of a prompt: each one's token, the model's prediction and the ranks of targets."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded

MOST = 40
RANK_COLUMNS = 4
WORD = 14


def position_lines(tables: Tables, prompt: Row, positions: Sequence[int], screen: Screen) -> list[Text]:
    """One line a position; of many the first and the last, at most ``MOST``, and how many lie between."""
    shown = _shown(positions)
    last = (tables.run.n_layers or 0) - 1
    tops = {p: _at_layer(tables, "lens_layers", prompt, p, last) for p in shown}
    ranks = {
        p: {
            row["target"]: row["rank"]
            for row in _at_layer(tables, "lens", prompt, p, last)
            if not row["is_foil"]
        }
        for p in shown
    }
    word = min(WORD, max((screen.width - 14) // 3, 6))
    names = _names(ranks, word, screen.width - 6 - 2 * word - 10)
    head = padded("", 6) + padded("token", word + 1) + padded("predicts", word + 1) + padded("p", 8)
    title = Text("Prediction by position", style="bold")
    columns = "".join(padded(screen.quoted(name, word), word + 1, right=True) for name in names)
    lines = [title, Text((head + columns).rstrip(), style="dim")]
    for place, position in enumerate(shown):
        if place and position != positions[positions.index(shown[place - 1]) + 1]:
            gap = f"{screen.glyph('…')} {len(positions) - len(shown):,} more positions, not shown"
            lines.append(Text(gap, style="dim"))
        line = _line(position, prompt, tops[position], word, screen)
        line.append("".join(padded(f"{ranks[position][name]:,}", word + 1, right=True) for name in names))
        line.rstrip()
        lines.append(line)
    return lines


def _line(position: int, prompt: Row, tops: Rows, word: int, screen: Screen) -> Text:
    line = Text(padded(f"{position:,}", 5, right=True) + " ", style="")
    line.append(padded(screen.quoted(prompt["tokens"][position], word), word + 1))
    if not tops:
        return line
    top = tops[-1]
    predicted, prob = screen.quoted(top["top_token"], word), spell_prob(top["top_prob"])
    follows = prompt["tokens"][position + 1 : position + 2]
    line.append(padded(predicted, word + 1), style="green" if follows == [top["top_token"]] else "")
    return line.append(padded(prob, 8))


def _shown(positions: Sequence[int]) -> list[int]:
    half = MOST // 2
    return list(positions) if len(positions) <= MOST else [*positions[:half], *positions[-half:]]


def _at_layer(tables: Tables, name: str, prompt: Row, position: int, layer: int) -> Rows:
    return [row for row in tables.rows(name, prompt["prompt_id"], position) if row["layer"] == layer]


def _names(ranks: dict[int, dict[str, int]], word: int, room: int) -> list[str]:
    """Targets that get a column: those the user named, so the same at every position; else none."""
    each = [tuple(one) for one in ranks.values()]
    if not each or any(one != each[0] for one in each):
        return []
    return list(each[0][: min(RANK_COLUMNS, max(room // (word + 1), 0))])
