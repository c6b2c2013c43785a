"""Show a decoding walk: the text written, and for each token what almost survived in its place."""

from __future__ import annotations

from rich.text import Text

from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.numbers import share
from elimtool.report.screen import Screen

MOST_STEPS = 40
TOKEN_WIDTH = 16


def walk_lines(tables: Tables, prompt: Row, screen: Screen) -> list[Text]:
    """Lines of a prompt's walk; nothing where the model wrote nothing."""
    steps = tables.rows("walk", prompt["prompt_id"])
    if not steps:
        return []
    title = f"Written through {screen.visible(steps[0]['chain'])}"
    lines = screen.titled(title, "token, its probability there, survivors; then the likeliest token cut")
    written = screen.visible("".join(step["token"] for step in steps))
    lines += screen.wrap(f"\u201c{written}\u201d", indent=2)
    width = max(len(str(steps[-1]["step"])), 2)
    for step in steps[:MOST_STEPS]:
        lines += _step(step, width, screen)
    if len(steps) > MOST_STEPS:
        lines.append(Text(f"  {len(steps) - MOST_STEPS:,} more steps are in the table walk", style="dim"))
    return lines


def _step(step: Row, width: int, screen: Screen) -> list[Text]:
    token = screen.quoted(step["token"], TOKEN_WIDTH)
    told = f"{step['step']:>{width}} {token} {share(step['prob'])} of {step['n_survivors']:,}"
    if step["almost"] is not None:
        told += f"; almost {screen.quoted(step['almost'], TOKEN_WIDTH)} ({share(step['almost_prob'])}):"
        told += f" {screen.visible(step['almost_why'])}"
    return screen.wrap(told, indent=2, hang=width + 1)
