"""Compare engines: how far apart each pair of chains leaves the output, and what each alone keeps."""

from __future__ import annotations

from rich.text import Text

from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.numbers import share
from elimtool.report.screen import Screen

NAMED = 3
"""Tokens that are named of those one chain alone keeps."""


def engines(probe: Probe, screen: Screen) -> list[Text]:
    """One sentence a pair of chains; nothing where fewer than two chains ran."""
    rows = probe.rows("chain_differences")
    if not rows:
        return []
    lines = screen.titled("Side by side", "total variation: the share of draws that must differ")
    for row in rows:
        lines += screen.wrap(_sentence(row, screen), hang=4, indent=2)
    return lines


def _sentence(row: Row, screen: Screen) -> str:
    left, right = screen.visible(row["chain"]), screen.visible(row["other"])
    alone = [
        _alone(left, row["n_only"], row["only"], screen),
        _alone(right, row["n_only_other"], row["only_other"], screen),
    ]
    told = "; ".join(part for part in alone if part) or "the same tokens survive"
    return f"{left} and {right}: {share(row['total_variation'])}; {told}"


def _alone(chain: str, count: int, texts: list[str], screen: Screen) -> str:
    if not count:
        return ""
    named = ", ".join(screen.quoted(text, 20) for text in texts[:NAMED])
    more = f" and {count - NAMED:,} more" if count > NAMED else ""
    return f"{chain} alone keeps {named}{more}"
