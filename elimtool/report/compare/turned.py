"""Write which heads turn from one span to another."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from elimtool.analysis.compare.injection import Turned
from elimtool.report.numbers import share
from elimtool.report.screen import Screen


def turned_lines(found: Turned | None, screen: Screen) -> Iterable[Text]:
    """Write the mean focus on the instruction, and the heads that move most against the controls."""
    if found is None:
        return
    arrow = screen.glyph("→")
    yield Text(f"Heads that read the {screen.visible(found.span)} span", style="bold")
    if found.focus is not None:
        focus = f"{share(found.focus[0])} {arrow} {share(found.focus[1])}"
        told = f"focus on it, against what is data, mean over heads: {focus}"
        yield from screen.wrap(told, indent=2, hang=2)
    named = []
    for row in found.heads:
        score = "" if row[found.by] is None else f" (z {row[found.by]:+.1f})"
        if found.by == "focus_z" and row["focus_a"] is not None:
            named.append(
                f"{row['layer']}.{row['head']} {share(row['focus_a'])} {arrow} {share(row['focus_b'])}{score}"
            )
        elif row["retention_shift"] is not None:
            named.append(f"{row['layer']}.{row['head']} {row['retention_shift']:+.2f} logits{score}")
    if named:
        yield from screen.wrap(f"moved most against the controls: {', '.join(named)}", indent=2, hang=2)
    if found.chance is not None:
        told = f"the largest z of any head in any control is {found.chance:.1f}: less than that is chance"
        yield from screen.wrap(told, indent=2, hang=2, style="dim")
