"""Tell which parts of the prompt wrote more or less for a target on one of two sides."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from elimtool.files.rows import Row
from elimtool.prompts.prompt import SINK
from elimtool.report.screen import Screen
from elimtool.run.comparison import Comparison
from elimtool.run.tables.sources import BIAS, MLP, SELF

MOST = 4
"""Parts that are told, those first of which what they wrote moved most."""
NAMES = {SINK: "the sink", SELF: "the embedding", MLP: "MLPs", BIAS: "constants"}


def source_lines(comparison: Comparison, pairs: Iterable[str], screen: Screen) -> Iterable[Text]:
    """Write what parts wrote for targets of some pairs on both sides, where that moved."""
    if "source_differences" not in comparison.tables:
        return
    wanted = set(pairs)
    rows = [
        row
        for row in comparison.arrow("source_differences").to_pylist()
        if row["pair_id"] in wanted and row["dla_centred_difference"]
    ]
    if not rows:
        return
    arrow = screen.glyph("→")
    title = f"  (logits above the mean, direct paths, A {arrow} B)"
    yield Text("What parts of the prompt wrote, moved most", style="bold").append(title, style="not bold dim")
    rows.sort(key=lambda row: -abs(row["dla_centred_difference"]))
    for row in rows[:MOST]:
        yield from screen.wrap(_told(row, arrow, screen), indent=2, hang=2)


def _told(row: Row, arrow: str, screen: Screen) -> str:
    span = str(row["span"])
    name = NAMES.get(span) or screen.quoted(span.partition(":")[2] or span, 24)
    said = f"{name} for {screen.quoted(row['target'], 18)}:"
    said += f" {row['dla_centred_a']:+.2f} {arrow} {row['dla_centred_b']:+.2f}"
    heads = [f"{row[f'top_layer_{side}']}.{row[f'top_head_{side}']}" for side in "ab"]
    if row["top_layer_a"] is None or row["top_layer_b"] is None:
        return said
    return f"{said}, most by head {heads[0] if heads[0] == heads[1] else f' {arrow} '.join(heads)}"
