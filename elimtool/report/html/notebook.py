"""Show a run, a comparison or one figure in a notebook: a page in a frame of its own."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.report.facts import Tables
from elimtool.report.figures.choose import choose
from elimtool.report.figures.draw import FORMATS, write_picture
from elimtool.report.figures.figure import Figure, Heat
from elimtool.report.html import payload
from elimtool.report.html.page import filled, page
from elimtool.run.comparison import Comparison
from elimtool.run.reader import Run

FRAMED = 50
"""Prompts that a frame shows."""


@dataclass(frozen=True, repr=False)
class Shown:
    """A figure and the run that it is of."""

    run: Run
    figure: Figure

    @classmethod
    def of(cls, run: Run, name: str, **choices: Any) -> Shown:
        """Choose a figure; arguments and errors as in ``elimtool.report.figures.choose.choose``."""
        return cls(run, choose(run, name, **choices))

    def save(self, path: str | Path) -> None:
        """Write the figure as a picture, its format by the name of the file; one that is there is replaced.

        Raises:
            ElimError: The format is not one of ``FORMATS``, or the file cannot be written.
        """
        kind = Path(path).suffix.lower().lstrip(".")
        if kind not in FORMATS:
            raise ElimError(f"the name {path} is not that of a picture", nearest(kind, FORMATS))
        write_picture(self.figure, Path(path), kind, overwrite=True)

    def _repr_html_(self) -> str:
        """Return the figure in a frame, as a notebook shows it."""
        return frame_of(self.run, self.figure)

    def __repr__(self) -> str:
        return f"{self.figure.name}: {self.figure.title}"


def frame(run: Run | Comparison, *, most: int = FRAMED) -> str:
    """Put the page in a frame for a notebook: its styles and scripts touch nothing outside.

    Args:
        run: A run or a comparison.
        most: Largest number of prompts or pairs to show; the page says how many are left out.

    Raises:
        ElimError: A table of the run cannot be read.
    """
    title = "elimtool: " + (run.a if isinstance(run, Comparison) else run.manifest).model
    return _framed(page(run, most=most), title, 44)


def frame_of(run: Run, figure: Figure) -> str:
    """Put one figure of a run in a frame for a notebook, as high as a grid of its rows is."""
    whole = "".join(filled(payload.single(Tables(run), figure), ()))
    rows = len(figure.rows) if isinstance(figure, Heat) else 16
    return _framed(whole, f"elimtool: {figure.title}", min(20 + 1.4 * rows, 60))


def _framed(whole: str, title: str, height: float) -> str:
    style = f"width: 100%; height: {height:g}rem; border: 1px solid #888"
    return (
        f'<iframe title="{escape(title)}" sandbox="allow-scripts" style="{style}"'
        f' srcdoc="{escape(whole)}"></iframe>'
    )
