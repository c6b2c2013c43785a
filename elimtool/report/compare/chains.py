"""Write how far apart two sampler chains leave one output, and what one alone keeps."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from elimtool.report.compare.tested import one_line
from elimtool.report.screen import Screen, padded
from elimtool.run.comparison import Comparison

MOST = 5


def chain_lines(comparison: Comparison, screen: Screen) -> Iterable[Text]:
    """Write the total variation between what the chains leave: its mean, and the prompts with the largest."""
    rows = comparison.table("survivor_differences")
    rows = rows[rows["total_variation"].notna()]
    if rows.empty:
        return
    far = rows[rows["total_variation"] > 0].sort_values("total_variation", ascending=False, kind="stable")
    words = (
        f"What is left to draw from differs for {len(far):,} of {len(rows):,} prompts; total variation"
        f" distance: mean {rows['total_variation'].mean():.3g}."
    )
    yield from screen.wrap(words, hang=2)
    if far.empty:
        return
    yield Text("")
    yield Text(
        "Farthest apart  (total variation distance; tokens left, and those of one side alone)", style="bold"
    )
    shown = far.head(MOST)
    names = [screen.shorten(screen.visible(name), 24) for name in shown["pair_id"]]
    room = max(map(len, names))
    for name, (_, row) in zip(names, shown.iterrows(), strict=True):
        only = [
            f"{side} alone: {', '.join(screen.quoted(one, 16) for one in row[f'only_{side.lower()}'][:3])}"
            for side in "AB"
            if len(row[f"only_{side.lower()}"])
        ]
        left = f"{row['n_survivors_a']:,} {screen.glyph('→')} {row['n_survivors_b']:,} tokens"
        line = f"{padded(name, room)}  {row['total_variation']:.3g}  {'; '.join([left, *only])}"
        yield from one_line(line, screen, indent=2, hang=4)
