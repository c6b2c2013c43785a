"""Tell how an answer fares along a text, and what the same text in other orders does."""

from __future__ import annotations

from math import exp

from rich.text import Text

from elimtool.analysis.along import AlongText, along_text
from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.screen import Screen, padded

SHOWN = 12
"""Most beginnings of the text with a line: of more, those where the first token changes, and the ends."""
ANSWERS = 3
"""Most answers that have columns."""
TOKEN = 12
"""Cells of a token."""
NARROWEST = 12
"""Cells of a segment's text; on a screen that has no room for them, and for the columns, it is left out."""


def along_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of an answer along a text; nothing where it was not followed."""
    rows = tables.rows("answers_along", prompt["prompt_id"])
    if not rows:
        return []
    lines = screen.titled(
        "The answer along the text",
        "read after the first k segments and the cue; first: the most probable token",
    )
    lines += screen.wrap(along_sentence(rows, screen), hang=2)
    text = by_length(rows)
    answers = list(text[0])[:ANSWERS]
    head = ["k", *(f"p {screen.quoted(answer, TOKEN)}" for answer in answers), "rank", "first"]
    widths = [4, *(max(8, len(one)) for one in head[1 : 1 + len(answers)]), 7, TOKEN]
    room = screen.width - sum(widths) - len(widths)
    told: list[tuple[int | None, list[str]]] = [(None, head)]
    for k, cells in [*told, *((k, _cells(k, text[k], answers, screen)) for k in _told(text))]:
        line = " ".join(padded(one, width, right=True) for one, width in zip(cells, widths, strict=True))
        if room >= NARROWEST:
            said = "after" if k is None else next(iter(text[k].values()))["segment"] or "(nothing)"
            line += " " + screen.shorten(screen.spaced(said.strip()), room)
        lines.append(Text(screen.shorten(line, screen.width), style="dim" if k is None else ""))
    return lines


def by_length(rows: Rows) -> list[dict[str, Row]]:
    """Rows of the text as it is written by answer, for each number of segments from 0."""
    found: dict[int, dict[str, Row]] = {}
    for row in rows:
        if row["arrangement"] == "text":
            found.setdefault(row["k"], {})[row["answer"]] = row
    return [found[k] for k in sorted(found)]


def along_sentence(rows: Rows, screen: Screen) -> str:
    """Say from where on the first token stands, and what the text in other orders and filler lead to."""
    found = along_text(rows)
    top = screen.quoted(next(iter(by_length(rows)[-1].values()))["top"])
    segments = "segment" if found.count == 1 else "segments"
    if not found.settled:
        said = f"{top} is first before the text begins and stays so"
    else:
        said = f"{top} is first for good after {found.settled} of {found.count} {segments}"
    share = f"{found.aoc:.0%} of shorter beginnings lead elsewhere"
    filler = "the same" if found.filler_same else "another"
    control = f"as many tokens of filler lead to {filler}"
    return f"{said}; {share}; {control}. {_orders(found)}{_otherwise(rows)}"


def _otherwise(rows: Rows) -> str:
    """Say which beginnings a tokenizer would split in another way, as all are cut from the whole text."""
    cut = sorted({row["k"] for row in rows if row["retokenised"]})
    return f" By itself the text up to k = {', '.join(map(str, cut))} has other tokens." if cut else ""


def _orders(found: AlongText) -> str:
    if found.p_value is None:
        return "There is no other order to compare with: whether it copies cannot be said."
    orders = "1 other order" if found.orders == 1 else f"{found.orders} other orders"
    said = (
        f"In {orders} of the segments the first token is the same in {found.same}, and a word of the"
        f" last segment in {found.copied} ({found.expected:.1f} by chance, p {spell_prob(found.p_value)})"
    )
    if found.copies:
        return f"{said}: the model takes it from whatever stands last."
    if found.same == found.orders:
        return f"{said}: the order of the text does not matter."
    return f"{said}: no sign that it copies what stands last."


def along_cells(row: Row) -> tuple[str, str]:
    """Probability and rank of an answer."""
    return spell_prob(exp(row["logprob"])), f"{row['rank']:,}"


def _cells(k: int, rows: dict[str, Row], answers: list[str], screen: Screen) -> list[str]:
    probs = [along_cells(rows[answer])[0] for answer in answers]
    first = rows[answers[0]]
    return [str(k), *probs, along_cells(first)[1], screen.quoted(first["top"], TOKEN)]


def _told(text: list[dict[str, Row]]) -> list[int]:
    """Choose the beginnings of the text to show."""
    if len(text) <= SHOWN:
        return list(range(len(text)))
    tops = [next(iter(rows.values()))["top"] for rows in text]
    turns = [at for at in range(1, len(tops)) if tops[at] != tops[at - 1]]
    chosen = {0, len(text) - 1, *turns[-(SHOWN - 2) :]}
    return sorted(chosen)
