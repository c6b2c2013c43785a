"""Say where each target stands in the model's output: its rank, its probability and what stands above it."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Rows
from elimtool.report.facts import Probe
from elimtool.report.followed import Trajectory
from elimtool.report.screen import Screen
from elimtool.report.trace.answer import first_tokens
from elimtool.report.trace.trajectory import marks

NAMED = 3
"""Tokens that are named of those above a target."""
MOST = 10
NAME = 24


def place_lines(probe: Probe, screen: Screen) -> list[Text]:
    """A sentence for each target or foil that was asked for; nothing where the user named none."""
    if not probe.asked:
        return []
    above = first_tokens(probe)
    followed = probe.trajectories
    lines: list[Text] = []
    for one in followed[:MOST]:
        said = "; ".join([_place(one, above, screen), *marks(one)])
        lines += screen.wrap(f"{said}.", hang=2)
    if len(followed) > MOST:
        lines.append(Text(f"{len(followed) - MOST} more targets were asked for.", style="dim"))
    return lines


def _place(one: Trajectory, first: Rows, screen: Screen) -> str:
    rank = one.rank
    said = f"{screen.quoted(one.target, NAME)} has rank {rank:,} (p = {spell_prob(one.prob)})"
    above = [row for row in first if row["place"] < rank and row["token_id"] != one.token_id][:NAMED]
    if rank == 1 or not above:
        return said
    named = ", ".join(f"{screen.quoted(row['token'], NAME)} {spell_prob(row['prob'])}" for row in above)
    rest = rank - 1 - len(above)
    more = f" and {rest:,} other token{'s' if rest > 1 else ''}" if rest > 0 else ""
    return f"{said}, behind {named}{more}"
