"""Draw a number over runs with matplotlib: its values, their intervals, and control limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elimtool.report.figures import figure as kinds
from elimtool.report.figures.palette import LINES_LIGHT
from elimtool.report.figures.plots.ink import EDGE, GONE, INK, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

TICKS = 16
"""Most runs that are named on the axis."""


def control(figure: kinds.ControlChart, canvas: Canvas) -> None:
    """Draw a point a run; runs beyond the limits are squares, change points triangles."""
    axes = canvas.subplots()
    at = range(len(figure.values))
    known = [(x, low, high) for x, (low, high) in enumerate(figure.intervals) if low is not None]
    axes.vlines(
        [x for x, _, _ in known],
        *zip(*[(a, b) for _, a, b in known], strict=True) if known else ((), ()),
        color=EDGE,
    )
    axes.plot(at, figure.values, color=LINES_LIGHT[0], marker="o", markersize=3, linewidth=1, label="mean")
    if figure.limits is not None:
        low, centre, high = figure.limits
        axes.axhline(centre, color=INK, linewidth=0.6, label="centre")
        for border in (low, high):
            axes.axhline(border, color=GONE, linewidth=0.8, linestyle=(0, (5, 2)))
        axes.plot([], [], color=GONE, linewidth=0.8, linestyle=(0, (5, 2)), label="limits")
    marks = ((figure.beyond, "s", "out of limits"), (figure.changed, "^", "change point"))
    for marked, marker, name in marks:
        if marked:
            axes.plot(
                list(marked),
                [figure.values[x] for x in marked],
                marker,
                color=LINES_LIGHT[1],
                markersize=7 if marker == "^" else 6,
                markerfacecolor="none" if marker == "^" else LINES_LIGHT[1],
                linestyle="none",
                label=name,
            )
    every = -(-len(figure.runs) // TICKS)
    axes.set_xticks(
        list(at)[::every], [short(name, 14) for name in figure.runs[::every]], rotation=45, ha="right"
    )
    axes.set_ylabel(figure.value_title)
    axes.grid(axis="y", color=EDGE, linewidth=0.5)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
