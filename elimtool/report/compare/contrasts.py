"""Tell how far targets are ahead of their foils on two sides, and what that changes."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from elimtool.files.rows import Row
from elimtool.report.screen import Screen
from elimtool.run.comparison import Comparison

MOST = 5
"""Contrasts that are told, those first that change most."""


def contrast_lines(comparison: Comparison, pairs: Iterable[str], screen: Screen) -> Iterable[Text]:
    """Write the contrasts of some pairs: A, B, and B minus A; nothing where no foil was given."""
    if "contrast_differences" not in comparison.tables:
        return
    wanted = set(pairs)
    rows = [
        row
        for row in comparison.arrow("contrast_differences").to_pylist()
        if row["pair_id"] in wanted and row["contrast_difference"] is not None
    ]
    if not rows:
        return
    arrow = screen.glyph("→")
    yield Text("Target against foil", style="bold").append(
        f"  (logit difference in nats, A {arrow} B)", style="not bold dim"
    )
    if len(rows) > 1:
        turned = sum(bool(row["changed"]) for row in rows)
        yield from screen.wrap(f"another one of the two is ahead in B: {turned:,} of {len(rows):,}", indent=2)
    rows.sort(key=lambda row: -abs(row["contrast_difference"]))
    for row in rows[:MOST]:
        yield from screen.wrap(_told(row, arrow, screen), indent=2, hang=2)


def _told(row: Row, arrow: str, screen: Screen) -> str:
    said = (
        f"{screen.quoted(row['target'], 18)} minus {screen.quoted(row['foil'], 18)}:"
        f" {row['contrast_a']:+.2f} {arrow} {row['contrast_b']:+.2f}, a change of"
        f" {row['contrast_difference']:+.2f}"
    )
    layers = [row[f"decision_layer_{side}"] for side in "ab"]
    if None not in layers:
        said += f"; settled from layer {layers[0]} {arrow} {layers[1]} on"
    return said
