"""List a prompt's decoding walk, what interventions changed, and its most probable tokens."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Probe, Tables
from elimtool.report.figures.figure import Bar, Bars, Listing
from elimtool.report.figures.overview import spelled
from elimtool.report.figures.words import SCREEN, quoted
from elimtool.report.trace.walk import HEADINGS as WALK_HEADINGS
from elimtool.report.trace.walk import walk_cells


def walk(tables: Tables, prompt: Row) -> list[Listing]:
    """List the tokens that the model wrote through a chain, and what competed with them."""
    steps = tables.rows("walk", prompt["prompt_id"])
    if not steps:
        return []
    written = SCREEN.visible("".join(step["token"] for step in steps))
    return [
        Listing(
            name="walk",
            title=f"Written through {SCREEN.visible(steps[0]['chain'])}",
            note=f"“{written}”",
            columns=[*WALK_HEADINGS, "survivors", "likeliest token cut, and why"],
            rows=[
                [
                    step["step"],
                    *walk_cells(step, SCREEN)[1:],
                    step["n_survivors"],
                    SCREEN.visible(f"{step['almost']}: {step['almost_why']}") if step["almost"] else "",
                ]
                for step in steps
            ],
        )
    ]


def taken_back(tables: Tables, prompt: Row) -> list[Listing]:
    """List what was taken back from a walk because it held a banned phrase."""
    rows = tables.rows("walk_rewinds", prompt["prompt_id"])
    if not rows:
        return []
    return [
        Listing(
            name="taken_back",
            title="Taken back from what was written",
            note="The text had come to hold a banned phrase: it went back to the token in which the phrase"
            " begins, which was banned there.",
            columns=["to step", "taken back", "tokens", "banned there", "p", "collateral", "rule"],
            rows=[
                [
                    row["step"],
                    SCREEN.quoted(row["text"]),
                    row["n_tokens"],
                    SCREEN.quoted(row["token"]),
                    spell_prob(row["back_prob"]),
                    spell_prob(row["collateral"]),
                    SCREEN.visible(row["why"]),
                ]
                for row in rows
            ],
        )
    ]


def interventions(probe: Probe) -> list[Listing]:
    """Compare each followed token in the model's own pass and under the interventions."""
    rows = [
        [
            SCREEN.visible(row["intervention"]),
            quoted(row["target"]),
            f"{row['rank_before']:,} → {row['rank_after']:,}",
            f"{spell_prob(row['prob_before'])} → {spell_prob(row['prob_after'])}",
            f"{spelled(row['outcome_before'])} → {spelled(row['outcome_after'])}",
            f"{quoted(row['top_before'])} → {quoted(row['top_after'])}",
        ]
        for row in probe.rows("effects")
    ]
    if not rows:
        return []
    return [
        Listing(
            name="interventions",
            title="What interventions changed",
            note="A second pass with the model changed; all other figures show its own pass.",
            columns=["intervention", "token", "rank", "p", "outcome", "most probable"],
            rows=rows,
        )
    ]


def top_tokens(probe: Probe) -> list[Bars]:
    """Draw the most probable tokens of the output."""
    rows = sorted(probe.rows("top_tokens"), key=lambda row: int(row["place"]))
    if not rows:
        return []
    return [
        Bars(
            name="top_tokens",
            title="What the model would have said",
            note="The most probable tokens of its output, before any sampler.",
            label_title="token",
            value_title="prob",
            bars=[Bar(quoted(row["token"]), row["prob"]) for row in rows],
        )
    ]
