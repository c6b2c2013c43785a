"""Show the heads behind a prediction: direct logit attribution, and the span that each attends to most."""

from __future__ import annotations

from rich.text import Text

from elimtool.prompts.prompt import SINK
from elimtool.report.facts import Probe
from elimtool.report.numbers import share
from elimtool.report.screen import Screen, padded
from elimtool.run.roles import with_role

MOST = 8


def head_lines(probe: Probe, screen: Screen) -> list[Text]:
    """The heads with the largest attributions for the first target; only where heads were asked for."""
    config = probe.run.manifest.config
    if not isinstance(config, dict) or not config.get("heads"):
        return []
    rows = [row for row in probe.rows("components") if row["kind"] == "head"]
    if not rows:
        return []
    target = rows[0]["target"]
    rows = [row for row in rows if row["target"] == target and row["dla_centred"] is not None]
    rows.sort(key=lambda row: -abs(row["dla_centred"]))
    masses: dict[tuple[int, int], tuple[float, str]] = {}
    for row in probe.rows("attention_heads"):
        if row["mass_no_sink"] is not None and row["span"] != SINK:
            key = row["layer"], row["head"]
            masses[key] = max(masses.get(key, (-1.0, "")), (row["mass_no_sink"], row["span"]))
    title = f"Heads for {screen.quoted(target, 20)}"
    legend = "direct logit attribution, and the span with most of what the head's sinks leave"
    lines = screen.titled(title, legend)
    for row in rows[:MOST]:
        mass, span = masses.get((row["layer"], row["head"]), (None, ""))
        line = "  " + padded(f"{row['layer']}.{row['head']}", 7)
        line += padded(f"{row['dla_centred']:+.2f}", 8, right=True)
        if mass is not None:
            line += f"  {screen.shorten(screen.quoted(span, 24), screen.width - 26)} {share(mass)}"
        if role := probe.run.roles.get(f"{row['layer']}.{row['head']}"):
            line = screen.shorten(with_role(line, role), screen.width)
        lines.append(Text(line))
    return lines
