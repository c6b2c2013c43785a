"""Draw a figure for print as PNG, SVG or PDF with matplotlib (extra ``plot``).

The palette works without colour vision and keeps its order in grey; lines differ in dashes too. The same
figure gives the same bytes: no date, no random identifiers.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError
from elimtool.files.destination import write_file
from elimtool.report.figures import figure as kinds
from elimtool.report.figures.plots import by_layer, counted, grid, over_runs
from elimtool.report.figures.plots.fonts import SPELLED, families, spelled
from elimtool.report.figures.plots.ink import GONE, WIDTH, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

FORMATS = ("png", "svg", "pdf")
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # texts are texts, whatever dollar signs they hold
    "svg.hashsalt": "elimtool",  # else identifiers are random
    "pdf.fonttype": 42,  # TrueType, which journals ask for and editors can change
    "savefig.dpi": 200,
    "hatch.linewidth": 0.5,
}
TITLE = 90
"""Longest title, in character cells."""
UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def picture(figure: kinds.Figure, format: str = "png") -> bytes:
    """Draw the figure, as the bytes of a file.

    Args:
        figure: Any figure but a ``Listing``.
        format: One of ``FORMATS``.

    Raises:
        ElimError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise ElimError("pictures need matplotlib", "pip install 'elimtool[plot]'") from error
    file = io.BytesIO()
    drawn = spelled(figure)
    with mpl.rc_context({**STYLE, "font.family": list(families())}):
        canvas = Canvas(figsize=(WIDTH, 3), layout="constrained")
        DRAW[figure.kind](drawn, canvas)
        canvas.suptitle(short(drawn.title, TITLE), x=0.01, ha="left", fontsize=9, fontweight="bold")
        if drawn != figure:
            below = [one for one in (canvas.get_supxlabel(), SPELLED) if one]
            canvas.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=6.5, color=GONE)
        canvas.savefig(file, format=format, metadata=UNDATED[format])
    return file.getvalue()


def write_picture(figure: kinds.Figure, path: Path, format: str, overwrite: bool = False) -> None:
    """Write the picture to a file, complete or not at all.

    Raises:
        ElimError: matplotlib is not installed; the file is there, or cannot be written.
    """
    write_file(path, picture(figure, format), overwrite)


DRAW: dict[str, Callable[[Any, "Canvas"], None]] = {
    "heat": grid.heat,
    "lines": by_layer.lines,
    "columns": by_layer.columns,
    "bars": counted.bars,
    "stack": counted.stack,
    "forest": counted.forest,
    "funnel": counted.funnel,
    "control": over_runs.control,
}
