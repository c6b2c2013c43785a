"""List the texts that a beam search found, and what each of its steps let go on, finished and dropped."""

from __future__ import annotations

from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Listing
from elimtool.report.figures.words import SCREEN, quoted
from elimtool.report.trace.beams import counts_sentence, target_sentence

MOST_STEPS = 400
"""Rows of continuations that are listed."""


def beams(tables: Tables, prompt: Row) -> list[Listing]:
    """List the result of a search with the fates of targets, and the continuations of each step."""
    texts, steps, targets = (
        tables.rows(name, prompt["prompt_id"]) for name in ("beams", "beam_steps", "beam_targets")
    )
    counted = [SCREEN.visible(counts_sentence(texts, steps))] if steps else []
    said = [*counted, *(target_sentence(row, SCREEN) for row in targets)]
    found = []
    if texts or said:
        found.append(
            Listing(
                name="beams",
                title="Texts of the beam search",
                note=" ".join(f"{one}." for one in said),
                columns=["place", "fate", "score", "log p", "tokens", "text"],
                rows=[
                    [
                        row["place"] or "",
                        row["fate"],
                        f"{row['final_score']:.2f}",
                        f"{row['logprob']:.2f}",
                        row["n_tokens"],
                        quoted(row["text"]) + ("" if row["ended"] else " ..."),
                    ]
                    for row in texts
                ],
            )
        )
    if steps:
        left = len(steps) - MOST_STEPS
        found.append(
            Listing(
                name="beam_steps",
                title="Continuations that the beam search looked at",
                note="Lead: score less that of the last that goes on, or of the last that may finish."
                + (f" {left:,} more are not shown." if left > 0 else ""),
                columns=["step", "place", "continues", "token", "score", "lead, nats", "fate", "text"],
                rows=[
                    [
                        row["step"] + 1,
                        row["place"],
                        row["beam"],
                        quoted(row["token"]),
                        f"{row['score']:.2f}",
                        "" if row["lead"] is None else f"{row['lead']:+.2f}",
                        row["fate"],
                        quoted(row["text"]),
                    ]
                    for row in steps[:MOST_STEPS]
                ],
            )
        )
    return found
