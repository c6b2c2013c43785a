"""List what tells and draws the findings of each command on populations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from elimtool.errors import ElimError, nearest
from elimtool.report.figures.figure import Figure
from elimtool.report.map.section import map_section
from elimtool.report.populations.audit.section import audit_section
from elimtool.report.populations.coverage.section import coverage_section
from elimtool.report.populations.section import Section
from elimtool.report.populations.sweep.section import sweep_section
from elimtool.report.screen import Screen
from elimtool.run.analysis import Analysis
from elimtool.run.reader import Run

if TYPE_CHECKING:
    from rich.console import Console

SECTIONS: dict[str, Callable[[Analysis], Section]] = {
    "audit": audit_section,
    "coverage": coverage_section,
    "map": map_section,
    "sweep": sweep_section,
}
"""Command -> what it found, in words and figures."""


def sections(run: Run) -> list[Section]:
    """Tell all that was found in a run, command by command.

    Raises:
        ElimError: What a command found is damaged, or of another run.
    """
    return [SECTIONS[command](run.analysis(command)) for command in run.analyses]


def is_figure(name: str) -> bool:
    """Return whether a figure is of an analysis: it begins with the command's name."""
    return name.partition("_")[0] in SECTIONS


def figure_of(run: Run, name: str) -> Figure:
    """Return one figure of what was found in a run.

    Raises:
        ElimError: The run was not analysed so, or the analysis has no such figure.
    """
    command = name.partition("_")[0]
    known = {one.name: one for one in SECTIONS[command](run.analysis(command)).figures}
    if name not in known:
        raise ElimError(f"there is no figure '{name}' of {command}", nearest(name, tuple(known)))
    return known[name]


def print_analysis(found: Analysis, console: Console) -> None:
    """Print what a command found, in the width and encoding of a console."""
    screen = Screen.of(console.width, console.encoding)
    for line in SECTIONS[found.command](found).lines(screen):
        console.print(line, highlight=False)
