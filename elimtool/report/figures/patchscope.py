"""Draw the rank at which the model repeats what a position holds, and list what it writes by layer."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Figure, Line, Lines, Listing
from elimtool.report.figures.words import SCREEN, quoted
from elimtool.report.trace.patchscope import last_of, token_sentence


def patchscopes(tables: Tables, prompt: Row) -> list[Figure]:
    """Draw the last probed position's tokens by layer, each with its control."""
    rows = last_of(tables.rows("patchscope", prompt["prompt_id"]))
    if not rows:
        return []
    by_token: dict[int, list[Row]] = {}
    for row in rows:
        by_token.setdefault(row["token_id"], []).append(row)
    lines = []
    for colour, own in enumerate(by_token.values()):
        name = quoted(own[0]["token"])
        lines.append(Line(name, [row["rank"] for row in own], colour=colour))
        control = [row["rank_control"] for row in own]
        lines.append(Line(f"{name}, other text", control, colour=colour, dashed=True))
    first = next(iter(by_token.values()))
    return [
        Lines(
            name="patchscope",
            title="The word repeated for what a layer holds (patchscope)",
            note=" ".join(token_sentence(own, SCREEN) for own in by_token.values()),
            layers=[row["layer"] for row in first],
            lines=lines,
            unit="rank",
        ),
        Listing(
            name="patchscope_written",
            title="What is repeated, layer by layer",
            note="Three tokens after the arrow; rank and p are those of the position's own token.",
            columns=["layer", "written", "rank", "other text", "p"],
            rows=[
                [
                    row["layer"],
                    quoted(row["decoded"]),
                    f"{row['rank']:,}",
                    f"{row['rank_control']:,.0f}",
                    spell_prob(row["prob"]),
                ]
                for row in first
            ],
        ),
    ]
