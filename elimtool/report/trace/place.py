"""Say where each target stands in the model's output: its rank, its probability and what stands above it."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Rows
from elimtool.report.facts import Probe
from elimtool.report.followed import Trajectory
from elimtool.report.screen import Screen
from elimtool.report.targets import likelier_spelling, named
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
    asked = {*(probe.prompt["targets"] or ()), *(probe.prompt["foils"] or ())}
    followed = [one for one in probe.trajectories if one.target in asked]
    lines: list[Text] = []
    for one in followed[:MOST]:
        said = "; ".join([_place(one, _spelled(one, probe, screen), above, screen), *marks(one, screen)])
        lines += screen.wrap(f"{said}.{_other(one, probe, above, screen)}", hang=2)
    if len(followed) > MOST:
        lines.append(Text(f"{len(followed) - MOST:,} more targets were asked for.", style="dim"))
    return lines


def _spelled(one: Trajectory, probe: Probe, screen: Screen) -> str:
    """Name a target as it was asked for and, where it differs, as it was scored."""
    count, name = probe.prompt["n_appended"] or 0, screen.quoted(one.target, NAME)
    spelling = probe.spellings.get(one.target, one.target)
    scored = spelling.removeprefix("".join(probe.tokens[-count:]) if count else "")
    return name if scored == one.target else f"{name}, scored as {screen.quoted(scored, NAME)},"


def _other(one: Trajectory, probe: Probe, first: Rows, screen: Screen) -> str:
    """Say that the other spelling of a target is the likelier one, and how to have it read."""
    row = next((row for row in probe.rows("survival") if row["target"] == one.target), None)
    prob = likelier_spelling(row, probe) if row else None
    if row is None or prob is None:
        return ""
    other, top = row["other_spelling"], first[0] if first else None
    if top and other != top["token"] and not top["token"].strip() and other.startswith(top["token"]):
        rest, space = screen.quoted(other.removeprefix(top["token"]), NAME), named(top["token"], screen)
        after = prob / top["prob"]
        stands = f"{'rank 1, ' if after > 0.5 else ''}p {spell_prob(min(after, 1.0))}"
        begins = f"{space} that the model writes first (p {spell_prob(top['prob'])})"
        said = f"Read after {begins}, {rest} has {stands}"
    else:
        said = f"Written {screen.quoted(other, NAME)} it is likelier: p {spell_prob(prob)} for all of it"
    config = probe.run.manifest.config
    exact = isinstance(config, dict) and config.get("target_space") == "exact"
    return f" {said}{': leave `target_space` out' if exact else ''}."


def _place(one: Trajectory, name: str, first: Rows, screen: Screen) -> str:
    rank = one.rank
    said = f"{name} has rank {rank:,} (p = {spell_prob(one.prob)})"
    above = [row for row in first if row["place"] < rank and row["token_id"] != one.token_id][:NAMED]
    if rank == 1 or not above:
        return said
    named = ", ".join(f"{screen.quoted(row['token'], NAME)} {spell_prob(row['prob'])}" for row in above)
    rest = rank - 1 - len(above)
    more = f" and {rest:,} other token{'s' if rest > 1 else ''}" if rest > 0 else ""
    return f"{said}, behind {named}{more}"
