"""List what repetition did, beside other text of the same length."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Listing
from elimtool.report.trace.resonance import HEADINGS, resonance_cells, resonance_sentence


def repeated(tables: Tables, prompt: Row) -> list[Listing]:
    """List every number of copies with what other text of that length does."""
    rows = tables.rows("resonance", prompt["prompt_id"])
    if not rows:
        return []
    return [
        Listing(
            name="repeated",
            title="Repeated",
            note=resonance_sentence(rows),
            columns=[*HEADINGS, "its p", "entropy, nats", "gain, nats"],
            rows=[
                [
                    *resonance_cells(row),
                    spell_prob(row["first_prob"]),
                    f"{row['entropy']:.2f}",
                    f"{row['gain']:+.2f}",
                ]
                for row in rows
            ],
        )
    ]
