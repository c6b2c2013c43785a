"""Draw the way of a residual through the layers: lengths of its steps, and the walks of all positions."""

from __future__ import annotations

from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Figure, Line, Lines, Listing
from elimtool.report.figures.words import SCREEN
from elimtool.report.trace.encoding_walk import HEADINGS, mean_sentences, walk_cells, walk_sentence

MOST_POSITIONS = 200
"""Positions listed, the last ones."""
NAMES = {"attention": "attention", "mlp": "MLP", "block": "both (the block)"}


def encoding_walks(tables: Tables, prompt: Row) -> list[Figure]:
    """Draw the steps of the last position by layer, and list the walks of all."""
    rows = tables.rows("encoding_walk", prompt["prompt_id"])
    return [*_steps(tables, prompt), *_walks(prompt, rows)] if rows else _steps(tables, prompt)


def _steps(tables: Tables, prompt: Row) -> list[Figure]:
    rows = tables.rows("encoding_steps", prompt["prompt_id"])
    last = max((row["position"] for row in rows), default=None)
    here = [row for row in rows if row["position"] == last]
    longest = max((row["step_length"] or 0.0 for row in here), default=0.0)
    if not longest:
        return []
    return [
        Lines(
            name="encoding_steps",
            title="Steps of the residual by layer (encoding walk)",
            note="What attention and MLP of each block add at the last position, and both together: their"
            " lengths, as shares of the longest.",
            layers=sorted({row["layer"] for row in here}),
            lines=[
                Line(
                    name,
                    [
                        None if row["step_length"] is None else row["step_length"] / longest
                        for row in here
                        if row["kind"] == kind
                    ],
                )
                for kind, name in NAMES.items()
            ],
            unit="share",
        )
    ]


def _walks(prompt: Row, rows: list[Row]) -> list[Figure]:
    left = len(rows) - MOST_POSITIONS
    note = [
        walk_sentence(prompt, rows, SCREEN),
        *mean_sentences(rows),
        "Straight: how far the residual gets, over the length of its blocks' steps; orthogonal: the same for"
        " steps of these lengths at right angles; turning: mean cosine of steps that follow each other,"
        " beside 95 % of random orders; attention: its share of the length of what attention and MLPs add;"
        " itself: how long what attention takes from the position itself is, over what attention adds.",
        *([f"{left:,} earlier positions are left out."] if left > 0 else []),
    ]
    return [
        Listing(
            name="encoding_walk",
            title="Walks from the embedding to the output",
            note=" ".join(note),
            columns=list(HEADINGS),
            rows=[walk_cells(prompt, rows, row, SCREEN) for row in rows[-MOST_POSITIONS:]],
        )
    ]
