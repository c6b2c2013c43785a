"""Tell which word the model repeats for what a position holds after each layer."""

from __future__ import annotations

from itertools import groupby

from rich.text import Text

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen

MOST_READINGS = 6
"""Stretches of layers whose reading is named."""


def patchscope_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of the last probed position; nothing where no patchscope was asked for."""
    rows = last_of(tables.rows("patchscope", prompt["prompt_id"]))
    if not rows:
        return []
    lines = screen.titled(
        "Put into a prompt that repeats words (patchscope)",
        "the residual takes the place of the word; other text: where residuals of other text do",
    )
    for token in dict.fromkeys(row["token_id"] for row in rows):
        own = [row for row in rows if row["token_id"] == token]
        lines += screen.wrap(token_sentence(own, screen), hang=2)
    return lines + screen.wrap(reading_sentence(rows, screen), hang=2)


def last_of(rows: Rows) -> Rows:
    """Choose the rows of the last probed position."""
    last = max((row["position"] for row in rows), default=None)
    return [row for row in rows if row["position"] == last]


def token_sentence(rows: Rows, screen: Screen) -> str:
    """Say at which layers a token is repeated first, beside what it is without its residual."""
    first = [row for row in rows if row["rank"] == 1]
    name = screen.quoted(rows[0]["token"])
    whose = f"{name}, the token itself," if rows[0]["is_source"] else f"The target {name}"
    best = min(rows, key=lambda row: (row["rank"], row["layer"]))
    beside = (
        f"rank {best['rank_unpatched']:,} in the prompt as it is, {best['rank_control']:,.0f} with other text"
    )
    if first:
        where = spans_of([row["layer"] for row in first])
        held = f"is repeated first at layers {where}"
        if min(best["rank_unpatched"], best["rank_control"]) == 1:
            return f"{whose} {held}, and so it is without what this position holds ({beside})."
        return f"{whose} {held} ({beside})."
    return (
        f"{whose} is never repeated first: best rank {best['rank']:,}, at layer {best['layer']} ({beside})."
    )


def reading_sentence(rows: Rows, screen: Screen) -> str:
    """Name what is written after the arrow, by stretches of layers."""
    one = [row for row in rows if row["token_id"] == rows[0]["token_id"]]
    stretches = [
        (said, [row["layer"] for row in some]) for said, some in groupby(one, key=lambda row: row["decoded"])
    ]
    longest = sorted(
        sorted(stretches, key=lambda each: -len(each[1]))[:MOST_READINGS], key=lambda each: each[1]
    )
    told = ", ".join(f"{screen.quoted(said)} ({spans_of(layers)})" for said, layers in longest)
    left = len(stretches) - len(longest)
    return f"Written by layer: {told}{f', and {left} more' if left else ''}."


def spans_of(layers: list[int]) -> str:
    """Write layers as stretches, such as 0-12, 14."""
    spans: list[list[int]] = []
    for layer in layers:
        if spans and layer == spans[-1][1] + 1:
            spans[-1][1] = layer
        else:
            spans.append([layer, layer])
    return ", ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in spans)
