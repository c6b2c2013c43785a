"""Tell what the routers of a mixture of experts dropped, and which experts moved each target."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.experts import by_layer, dropped_in_words
from elimtool.report.facts import Probe
from elimtool.report.screen import Screen
from elimtool.report.trace.judgement import told_targets

NAME = 18


def expert_lines(probe: Probe, screen: Screen) -> list[Text]:
    """A line for the routers, and one for each target; none for a model without experts."""
    routed = probe.part("experts")
    said = "" if routed is None or not routed.num_rows else dropped_in_words(by_layer(routed))
    if not said:
        return []
    lines = screen.wrap(f"Experts: {said}", hang=2)
    for one in told_targets(probe)[0]:
        rows = [row for row in probe.rows("expert_components") if row["target"] == one.target]
        if rows:
            best, worst = (pick(rows, key=lambda row: row["dla_centred"]) for pick in (max, min))
            name = screen.quoted(one.target, NAME)
            said = f"{name}: {best['component']} wrote {best['dla_centred']:+.2f} for it, "
            said += f"{worst['component']} {worst['dla_centred']:+.2f}"
            lines += screen.wrap(said, indent=2, hang=2)
    return lines
