"""List targets of several tokens through sampler chains, token by token."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Listing
from elimtool.report.figures.words import SCREEN
from elimtool.report.trace.sequences import HEADINGS, of_whole, step_cells, whole_sentence


def sequences(tables: Tables, prompt: Row) -> list[Listing]:
    """List each target's tokens through each chain, with what every stage does and how often a text ends."""
    found = []
    for whole in tables.rows("sequences", prompt["prompt_id"]):
        steps = of_whole(tables.rows("sequence_steps", prompt["prompt_id"]), whole)
        stages = of_whole(tables.rows("sequence_stages", prompt["prompt_id"]), whole)
        found.append(
            Listing(
                name="sequences",
                title="Token by token through a chain",
                note=f"{whole_sentence(whole, SCREEN)}.",
                columns=[*HEADINGS, "p of the end", "through the chain", "end cut by", "by which rule"],
                rows=[
                    [
                        *step_cells(step, stages, SCREEN),
                        spell_prob(step["end_model_prob"]),
                        spell_prob(step["end_prob"]),
                        step["end_removed_by"] or "",
                        SCREEN.visible(step["why"] or ""),  # last, where sentences have room
                    ]
                    for step in steps
                ],
            )
        )
    return found
