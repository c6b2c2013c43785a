"""Gather the data of a history's page: a control chart for each series, what it says, and its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.files.destination import write_file
from elimtool.report.figures.history import chart
from elimtool.report.figures.words import SCREEN
from elimtool.report.html.page import filled
from elimtool.report.html.payload import only_figures
from elimtool.version import __version__

if TYPE_CHECKING:
    from elimtool.analysis.query.history import MetricHistory


def front(found: MetricHistory) -> dict[str, Any]:
    """Gather what the page shows, in the form of ``payload.front``."""
    series = found.series
    asked = found.asked
    chosen = [getattr(asked, name) for name in ("target", "chain", "span")]
    layers = [f"layers {asked.layers}"] if asked.layers else []
    days = [(row["started"] or "")[:10] for row in found.rows]
    facts = {
        "model": SCREEN.visible(asked.metric),
        "facts": [
            *(SCREEN.visible(one) for one in chosen if one),
            *layers,
            *([found.unit] if found.unit else []),
            f"in order of {'time' if asked.over == 'started' else asked.over}",
            f"elimtool {__version__}",
        ],
        "finished": max(days),
    }
    count = f"{len(series[0]):,} run{'' if len(series[0]) == 1 else 's'}"
    together = f"{count}, a series for each prompt" if asked.each else count
    notes = [SCREEN.visible(note) for note in found.notes]
    return only_figures([chart(found, rows) for rows in series], together, facts, notes)


def write_history(found: MetricHistory, path: Path, overwrite: bool = False) -> None:
    """Write the page of a history to a file, complete or not at all.

    Raises:
        ElimError: The file is there and not to be replaced, or cannot be written.
    """
    write_file(path, "".join(filled(front(found), ())).encode(), overwrite)
