"""List where a generated text may stop: the watched tokens at every step."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Listing
from elimtool.report.figures.words import SCREEN
from elimtool.report.trace.stops import HEADINGS, stop_cells, stop_sentences


def stops(tables: Tables, prompt: Row) -> list[Listing]:
    """List every step of a walk whose stop tokens were watched."""
    steps = tables.rows("stops", prompt["prompt_id"])
    if not steps:
        return []
    tokens = tables.rows("stop_tokens", prompt["prompt_id"])
    whys = {row["step"]: f"{SCREEN.quoted(row['token'])}: {row['why']}" for row in tokens if row["why"]}
    names = dict.fromkeys(row["token"] for row in tokens)
    return [
        Listing(
            name="stops",
            title=f"Where it may stop: {', '.join(map(SCREEN.quoted, names))}",
            note=" ".join(stop_sentences(steps, SCREEN)),
            columns=[*HEADINGS, "over all texts", "by which rule"],
            rows=[
                [
                    *stop_cells(step, tokens, SCREEN),
                    spell_prob(step["stop_by"]),
                    SCREEN.visible(whys.get(step["step"], "")),
                ]
                for step in steps
                if step["token"] is not None
            ],
        )
    ]
