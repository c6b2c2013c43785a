"""Hold what an analysis has to say: for the terminal, and for a section of a run's page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from elimtool.report.figures.figure import Figure
from elimtool.report.screen import Screen


def nothing_drawn(_: Screen) -> list[Text]:
    """Draw nothing on a terminal."""
    return []


@dataclass(frozen=True)
class Section:
    """What an analysis found.

    Attributes:
        title: What was looked for, and in how much, in one line.
        told: Sentences, the most important first; a paragraph each.
        figures: Figures for the page, each of a name of its own.
        notes: What was left out or is doubtful, a sentence each.
        drawn: Lines between sentences and notes on a terminal, such as a table.
    """

    title: str
    told: Sequence[str]
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    drawn: Callable[[Screen], Sequence[Text]] = nothing_drawn

    def to_json(self) -> dict[str, Any]:
        """Convert it to what the page's script draws."""
        return {
            "title": self.title,
            "told": list(self.told),
            "notes": list(self.notes),
            "figures": [one.to_json() for one in self.figures],
        }

    def lines(self, screen: Screen) -> list[Text]:
        """Lay it out for a terminal."""
        found = [screen.rule(screen.visible(self.title))]
        for one in self.told:
            found += screen.wrap(screen.visible(one))
        found += self.drawn(screen)
        for one in self.notes:
            found += screen.wrap(screen.visible(one), style="dim", hang=2)
        return found
