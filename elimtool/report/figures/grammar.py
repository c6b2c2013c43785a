"""List what a grammar removed and forced at each written token, and how far it accepts targets."""

from __future__ import annotations

from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Listing
from elimtool.report.figures.words import SCREEN
from elimtool.report.trace.grammar import (
    HEADINGS,
    at_the_end,
    grammar_sentences,
    step_cells,
    target_sentences,
    written_tokens,
)


def grammars(tables: Tables, prompt: Row) -> list[Listing]:
    """List the steps of a prompt's walk through a grammar, and say what it does to output and targets."""
    steps, places, targets = (
        tables.rows(name, prompt["prompt_id"]) for name in ("walk_grammar", "grammar", "grammar_targets")
    )
    said = [*grammar_sentences(steps, at_the_end(places), SCREEN)]
    said += target_sentences(at_the_end(targets), SCREEN)
    if not said:
        return []
    tokens = written_tokens(tables, prompt)
    return [
        Listing(
            name="grammar",
            title="What the grammar removed and forced",
            note=" ".join(f"{one}." for one in dict.fromkeys(said)),
            columns=[*HEADINGS, "distortion so far, nats"],
            rows=[
                [
                    *step_cells(row, tokens, SCREEN),
                    "" if row["distortion_so_far"] is None else f"{row['distortion_so_far']:.3g}",
                ]
                for row in steps
            ],
        )
    ]
