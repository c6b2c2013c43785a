"""Write what the model would write: the most probable next tokens, before anything else is said."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import Leader, spell_prob
from elimtool.files.rows import Rows
from elimtool.report.facts import Probe
from elimtool.report.screen import Screen, padded

SHOWN = 5
NAME = 24
BAR = 30
"""Cells of the bar of probability 1."""


def answer_lines(probe: Probe, screen: Screen) -> list[Text]:
    """The first ``SHOWN`` tokens of the output with their probabilities; followed ones are marked."""
    rows = first_tokens(probe)[:SHOWN]
    if not rows:
        return []
    lines = screen.titled("The model would write next", "p: probability in its output, before any sampler")
    # of what the model wrote, the token that came next is followed too, which nobody asked for
    asked, marks = set(probe.prompt["targets"] or ()), dict[int, str]()
    for one in probe.trajectories if asked else ():
        if not one.is_foil and marks.get(one.token_id) != "target":
            marks[one.token_id] = "target" if one.target in asked else "written"
    names = [screen.quoted(row["token"], min(NAME, screen.width // 2)) for row in rows]
    width = max(cell_len(name) for name in names)
    room = max(min(BAR, screen.width - width - 24), 0)
    for name, row in zip(names, rows, strict=True):
        line = Text(f"  {row['place']}  ").append(padded(name, width), style="bold")
        line.append(f"  {spell_prob(row['prob']):<8}")
        line.append(("█" if screen.rich_glyphs else "#") * round(room * row["prob"]), style="cyan")
        if mark := marks.get(row["token_id"]):
            line.append(f" {screen.glyph('←')} {mark}", style="bold")
        line.rstrip()
        lines.append(line)
    return lines


def first_tokens(probe: Probe) -> Rows:
    """Rows of ``place, token, token_id, prob`` from the best on, from whatever tables the run has."""
    if rows := probe.rows("top_tokens"):
        return sorted(rows, key=lambda row: int(row["place"]))
    if layers := probe.rows("lens_layers"):
        last = max(layers, key=lambda row: int(row["layer"]))
        names = {"token": "top_token", "token_id": "top_token_id", "prob": "top_prob"}
        return [{"place": 1, **{name: last[column] for name, column in names.items()}}]
    return [
        {"place": 1, "token": one.target, "token_id": one.token_id, "prob": one.prob}
        for one in probe.trajectories
        if one.rank == 1
    ][:1]


def leader(probe: Probe, screen: Screen) -> Leader | None:
    """The most probable token of the output; None where the run does not say."""
    first = next(iter(first_tokens(probe)), None)
    return Leader(screen.quoted(first["token"], NAME), first["prob"], first["token"]) if first else None
