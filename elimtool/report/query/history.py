"""Tell how a number moved over runs: a line of bars, limits, alarms and changes, and the last runs."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from rich.text import Text

from elimtool.files.rows import Row, Rows

if TYPE_CHECKING:
    from elimtool.analysis.query.history import MetricHistory
    from elimtool.report.screen import Screen

BARS = "▁▂▃▄▅▆▇█"
LAST = 12
"""Runs whose values are listed, the last ones, beside those that are out of limits or changed."""


def history_lines(found: MetricHistory, screen: Screen) -> list[Text]:
    """Lay out a history for a screen."""
    unit = f", {found.unit}" if found.unit else ""
    lines: list[Text] = []
    for rows in found.series:
        lines += screen.wrap(f"{found.asked.metric}{unit}: {heading(rows, screen)}", style="bold")
        lines.append(Text(f"  {_strip(rows, screen)}"))
        for text, style in told(rows, found.limited_by, screen):
            lines += screen.wrap(text, style=style, hang=2)
        for text in over_revisions(found, rows, screen):
            lines += screen.wrap(text, hang=2)
        lines += _listed(rows, screen)
    for note in found.notes:
        lines += screen.wrap(screen.visible(note), style="dim")
    return lines


def heading(rows: Rows, screen: Screen) -> str:
    """Say of how many runs and prompts a series is."""
    prompt, count = rows[0]["prompt_id"], rows[0]["n_prompts"]
    runs = f"{len(rows):,} run{'' if len(rows) == 1 else 's'}"
    if prompt is not None:
        return f"{runs}, prompt {screen.visible(prompt)}"
    return f"{runs}, mean over {count:,} prompt{'' if count == 1 else 's'} that all have"


def _strip(rows: Rows, screen: Screen) -> str:
    """Draw a bar a run, of the last that fit."""
    values = [row["value"] for row in rows][-(screen.width - 4) :]
    low, high = min(values), max(values)
    if high == low:
        return screen.glyph(BARS[0]) * len(values)
    return "".join(screen.glyph(BARS[round((value - low) / (high - low) * 7)]) for value in values)


def told(rows: Rows, made_of: int, screen: Screen) -> list[tuple[str, str]]:
    """Say which runs of a series are out of limits and where the number changed, with a style for each."""
    last = rows[-1]
    where = (
        f"{_number(last['centre'])} ({_number(last['low'])} to {_number(last['high'])})" if made_of else ""
    )
    lines = [
        (f"limits of the first {made_of} runs: {where}", "")
        if made_of
        else ("no control limits: they need 9 runs or more", "dim")
    ]
    for row in rows:
        if row["beyond"]:
            side = "below" if row["value"] < row["low"] else "above"
            text = f"{side} its limits at {_named(row, screen)}: {_number(row['value'])}"
            lines.append((text, "bold red"))
        if row["changed"]:
            lines.append((f"changed at {_named(row, screen)} by {_change(row)}", "bold"))
    if not any(row["beyond"] or row["changed"] for row in rows):
        quiet = ["nothing is out of its limits"] if made_of else []  # nothing is said of what was not tested
        quiet += ["no change is certain"] if any(row["change_low"] is not None for row in rows) else []
        lines += [(", ".join(quiet), "")] if quiet else []
    return lines


def over_revisions(found: MetricHistory, rows: Rows, screen: Screen) -> list[str]:
    """Say of a series over revisions whether it rises or falls, and from where on a target survives."""
    lines = []
    if (measured := found.trend(rows)) is not None:
        rho, p_value = measured
        way = "rises" if rho > 0 else "falls" if rho < 0 else "neither rises nor falls"
        p = "p < 0.001" if p_value < 0.001 else f"p {p_value:.2g}"
        lines.append(f"over revisions it {way}: Spearman's rho {rho:.2f}, {p}")
    if found.yes_no and found.asked.over == "revision":
        first = found.lasting(rows)
        lines.append(
            f"holds for good from {_named(first, screen)} on" if first else "does not hold at the last"
        )
    return lines


def _listed(rows: Rows, screen: Screen) -> list[Text]:
    shown = [row for row in rows if row["beyond"] or row["changed"] or row["order"] >= len(rows) - LAST]
    lines = []
    if len(shown) < len(rows):
        lines.append(Text(f"  {len(rows) - len(shown):,} earlier runs are not listed", style="dim"))
    width = max(len(_number(row["value"])) for row in shown)
    for row in shown:
        mark = "!" if row["beyond"] else "*" if row["changed"] else " "
        text = f"  {mark} {_number(row['value']):>{width}}  {_named(row, screen)}"
        if row["change_low"] is not None:
            text += f"  {_change(row)}"
        lines.append(Text(text, style="bold" if row["beyond"] or row["changed"] else "", overflow="fold"))
    return lines


def _named(row: Row, screen: Screen) -> str:
    """Name a run: its label or its folder, revision and day."""
    name = row["label"] or PurePath(row["run"]).name
    more = [row["revision"][:12] if row["revision"] else None, (row["started"] or "")[:10] or None]
    told = ", ".join(one for one in more if one)
    return screen.visible(f"{name} ({told})" if told else name)


def _change(row: Row) -> str:
    low, high = row["change_low"], row["change_high"]
    between = f" ({_signed(low)} to {_signed(high)})" if low is not None else ""
    return f"{_signed(row['change'])}{between}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _signed(value: float) -> str:
    return f"{value:+.3g}"
