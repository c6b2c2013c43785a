"""Draw how an answer fares along a text, beside the text itself, and list the text in other orders."""

from __future__ import annotations

from math import exp

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Figure, Line, Lines, Listing
from elimtool.report.figures.words import SCREEN, quoted
from elimtool.report.trace.along import along_cells, along_sentence, by_length

ARRANGED = {"shuffled": "another order", "filler": "filler"}


def along(tables: Tables, prompt: Row) -> list[Figure]:
    """Draw the answers by segment, and list the segments and the controls."""
    rows = tables.rows("answers_along", prompt["prompt_id"])
    if not rows:
        return []
    text = by_length(rows)
    answers = list(text[0])
    columns = [f"p {quoted(answer)}" for answer in answers]
    return [
        Lines(
            name="along",
            title="The answer along the text",
            note=along_sentence(rows, SCREEN),
            layers=list(range(len(text))),
            lines=[
                Line(quoted(answer), [exp(one[answer]["logprob"]) for one in text], one_is_foil(text, answer))
                for answer in answers
            ],
            unit="prob",
            axis="segments given",
        ),
        Listing(
            name="segments",
            title="The text, segment by segment",
            note="Read after the segment and the cue; rank and chains are those of the first answer.",
            columns=["after", "segment", *columns, "rank", "first of all", "alive in"],
            rows=[[k, *_cells(list(one.values()))] for k, one in enumerate(text)],
        ),
        Listing(
            name="orders",
            title="The text in other orders, and filler",
            note="All segments, in another order, and as many tokens that say nothing.",
            columns=["text", "last segment", *columns, "rank", "first of all", "alive in"],
            rows=[[ARRANGED[some[0]["arrangement"]], *_cells(some)] for some in _controls(rows)],
        ),
    ]


def one_is_foil(text: list[dict[str, Row]], answer: str) -> bool:
    """Tell whether an answer is a foil."""
    return bool(text[0][answer]["is_foil"])


def _controls(rows: Rows) -> list[Rows]:
    """Rows of each other order, and of filler."""
    found: dict[tuple[str, int | None], Rows] = {}
    for row in rows:
        if row["arrangement"] != "text":
            found.setdefault((row["arrangement"], row["draw"]), []).append(row)
    return list(found.values())


def _cells(rows: Rows) -> list[str]:
    first = rows[0]
    return [
        SCREEN.spaced((first["segment"] or "").strip()),
        *(along_cells(row)[0] for row in rows),
        along_cells(first)[1],
        quoted(first["top"]),
        ", ".join(SCREEN.visible(name) for name in first["alive_in"]),
    ]
