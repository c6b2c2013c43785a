"""List what a map of the model found of the heads that a prompt's report names."""

from __future__ import annotations

from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Listing
from elimtool.report.figures.words import SCREEN
from elimtool.report.trace.mapped import named_heads
from elimtool.run.roles import KEPT, spelled


def mapped_heads(probe: Probe) -> list[Listing]:
    """List the named heads with the scores of their roles and what they keep, to sort by any column."""
    profiles = probe.run.head_profiles
    named = {head: why for head, (_, why) in named_heads(probe, SCREEN).items() if head in profiles}
    if not named:
        return []
    roles = list(dict(profiles[next(iter(named))].scores))
    rows = []
    for head, why in named.items():
        one, scores = profiles[head], dict(profiles[head].scores)
        kept = "none" if one.keeps is None else KEPT.get(one.keeps, one.keeps)
        has = ", ".join(map(spelled, one.present)) or "none"
        rows.append([head, why, has, *(scores.get(role) for role in roles), kept, one.times])
    return [
        Listing(
            name="mapped_heads",
            title="What the map says of the heads that are named here",
            note="Scores of the map that this run was given; keeps: the category of tokens with most"
            " attention over what its distances explain, and how many times as much. The map's own page"
            " (elimtool report MAP -o map.html) opens a head at map.html#head=LAYER.HEAD.",
            columns=["head", "named for", "roles", *map(spelled, roles), "keeps", "times"],
            rows=rows,
        )
    ]
