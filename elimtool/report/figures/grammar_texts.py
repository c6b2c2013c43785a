"""List the most probable texts of a grammar, and say how probable all are together."""

from __future__ import annotations

from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Listing
from elimtool.report.figures.words import SCREEN
from elimtool.report.trace.grammar_texts import text_cells, whole_sentence


def grammar_texts(tables: Tables, prompt: Row) -> list[Listing]:
    """List the texts of a prompt's grammars with how far masking favours each."""
    wholes, texts = (tables.rows(name, prompt["prompt_id"]) for name in ("grammar_whole", "grammar_texts"))
    if not wholes and not texts:
        return []
    return [
        Listing(
            name="grammar_texts",
            title="Texts of the grammar",
            note=" ".join(f"{whole_sentence(row, SCREEN)}." for row in wholes),
            columns=["log p free", "log p masked", "favoured, nats", "text", "chain"],
            rows=[[*text_cells(row, SCREEN), SCREEN.visible(row["chain"])] for row in texts],
        )
    ]
