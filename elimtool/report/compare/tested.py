"""Write the statistics of a comparison: over all pairs, then by group and tag."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.compare.summary import SIGNIFICANT
from elimtool.report.screen import Screen, padded
from elimtool.run.comparison import Comparison

WORDS = {
    "verdict_differences.survived": "targets that survive, share",
    "verdict_differences.final_logprob": "log-probability in the output, nats",
    "verdict_differences.rank_ratio": "rank in the output, decades",
    "stage_differences.kept": "targets left, share",
    "sampling_differences.mass_pruned": "probability cut",
    "survivor_differences.n_survivors": "tokens left",
    "survivor_differences.entropy": "entropy of what is left, nats",
}
"""Metrics that are shown, and their names."""
MOST_LINES = 12
MOST_VALUES = 5


def tested(comparison: Comparison, screen: Screen) -> Iterable[Text]:
    """Write means over all pairs with their intervals, then the groups and tags that differ most."""
    rows = comparison.table("statistics")
    told = rows[rows["metric"].isin(WORDS) & rows["layer"].isna() & rows["span"].isna()]
    whole = told[(told["scope"] == "all") & (told["mean_difference"] != 0)]
    if len(whole):
        yield Text("Means over prompts, B minus A  (95% interval; q: false discovery rate)", style="bold")
        yield from _lines([(_name(row), row) for _, row in _first(whole, MOST_LINES)], screen)
        if len(whole) > MOST_LINES:
            yield Text(f"  {len(whole) - MOST_LINES:,} more are in the table statistics.", style="dim")
    for scope in ("group", "category", "tag"):
        some = told[(told["scope"] == scope) & (told["metric"] == _headline(told))]
        some = some[some["mean_difference"] != 0]
        if len(some) > 1:
            order = some["mean_difference"].abs().sort_values(ascending=False, kind="stable").index
            yield Text("")
            yield Text(f"By {scope}: {WORDS[_headline(told)]}", style="bold")
            named = [(str(row["value"]), row) for _, row in some.loc[order[:MOST_VALUES]].iterrows()]
            yield from _lines(named, screen)
            if len(some) > MOST_VALUES:
                yield Text(f"  {len(some) - MOST_VALUES:,} more are in the table statistics.", style="dim")


def one_line(text: str, screen: Screen, *, indent: int, hang: int, style: str = "") -> list[Text]:
    """Keep a line as it is laid out where it fits the screen, else wrap it."""
    if cell_len(text) + indent <= screen.width:
        return [Text(" " * indent + text, style=style)]
    return screen.wrap(text, indent=indent, hang=hang, style=style)


def _headline(rows: pd.DataFrame) -> str:
    """The first metric of ``WORDS`` in the table, but survival last: of few prompts it says little."""
    known = set(rows["metric"])
    return next((name for name in list(WORDS)[1:] if name in known), next(iter(WORDS)))


def _first(rows: pd.DataFrame, most: int) -> Iterable[tuple[Any, Any]]:
    """Rows in the order of ``WORDS``; of many, those with the smallest q."""
    place = rows["metric"].map({name: index for index, name in enumerate(WORDS)})
    kept = rows.assign(place=place).sort_values("q_value", kind="stable", na_position="last").head(most)
    return kept.sort_values("place", kind="stable").iterrows()


def _name(row: Any) -> str:
    where = " ".join(str(row[key]) for key in ("chain", "stage") if isinstance(row[key], str))
    return f"{WORDS[row['metric']]}{': ' if where else ''}{where}"


def _lines(named: list[tuple[str, Any]], screen: Screen) -> Iterable[Text]:
    most = max(screen.width // 2, 16)
    names = [screen.shorten(screen.visible(name), most) for name, _ in named]
    room = max(cell_len(name) for name in names)
    for name, (_, row) in zip(names, named, strict=True):
        interval = ""
        if not pd.isna(row["ci_low"]):
            interval = f" ({row['ci_low']:+.3g} to {row['ci_high']:+.3g})"
        q = "" if pd.isna(row["q_value"]) else f"  q {row['q_value']:.2g}"
        count = f"  n {row['n_pairs']:,}"
        line = f"{padded(name, room)}  {row['mean_difference']:+.3g}{interval}{q}{count}"
        style = "" if not pd.isna(row["q_value"]) and row["q_value"] <= SIGNIFICANT else "dim"
        yield from one_line(line, screen, indent=2, hang=room + 4, style=style)
