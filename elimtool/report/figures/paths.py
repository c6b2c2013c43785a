"""List the ways that a text may go on, and draw them as a tree."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.paths import tree_of
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Listing
from elimtool.report.figures.words import SCREEN
from elimtool.report.trace.paths import HEADINGS, cut_words, path_cells, path_sentences, who

STEP = "\u2003"
"""A space of the width of a letter, which pages keep."""


def paths(tables: Tables, prompt: Row) -> list[Listing]:
    """List a prompt's paths, and draw the tree of all."""
    rows = tables.rows("paths", prompt["prompt_id"])
    if not rows:
        return []
    steps = tables.rows("path_steps", prompt["prompt_id"])
    found = [
        Listing(
            name="paths",
            title="Ways that the text may go on",
            note=" ".join(path_sentences(rows, steps, SCREEN)),
            columns=[*HEADINGS[:1], "place", *HEADINGS[1:], "loops", "allowed by"],
            rows=[
                [
                    row["path"],
                    row["place"],
                    *path_cells(row)[1:-1],
                    SCREEN.quoted(row["text"]),
                    "yes" if row["looped"] else "",
                    SCREEN.visible(", ".join(row["allowed_by"])),
                ]
                for row in rows
            ],
        )
    ]
    if steps:
        found.append(
            Listing(
                name="path_tree",
                title="These ways as a tree",
                note="What paths share stands once. p: of a branch's first token, where it parts.",
                columns=["text", "p", "paths", "cut by"],
                rows=[
                    [
                        f"{STEP * 2 * one.depth}{SCREEN.quoted(one.text)}",
                        spell_prob(one.prob),
                        SCREEN.visible(who(one.paths)),
                        cut_words(one, SCREEN).removeprefix("cut: ") if one.cuts else "",
                    ]
                    for one in tree_of(steps)
                ],
            )
        )
    return found
