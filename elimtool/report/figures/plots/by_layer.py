"""Draw figures over layers with matplotlib: lines and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elimtool.report.figures import figure as kinds
from elimtool.report.figures.palette import LINES_LIGHT
from elimtool.report.figures.plots.ink import EDGE, GONE, INK, count_ticks, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)))
EVENTS = {"entry": "^", "commit": "s", "lost": "v", "decision": "D"}


def lines(figure: kinds.Lines, canvas: Canvas) -> None:
    """Draw one line a token, with its events marked."""
    axes = canvas.subplots()
    layers = list(figure.layers)
    for index, line in enumerate(figure.lines):
        place = index if line.colour is None else line.colour
        colour = LINES_LIGHT[place % len(LINES_LIGHT)]
        values = [float("nan") if one is None else one for one in line.values]
        dash = (
            DASHES[2]
            if line.is_foil
            else DASHES[1 if line.dashed else place // len(LINES_LIGHT) % len(DASHES)]
        )
        if line.low:
            low, high = (
                [float("nan") if one is None else one for one in end] for end in (line.low, line.high)
            )
            axes.fill_between(layers, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(layers, values, color=colour, linestyle=dash, linewidth=1.4, label=short(line.name))
        for mark in (one for one in line.marks if one.layer in layers):
            _mark(axes, canvas, mark, values[layers.index(mark.layer)], colour)
    for number, (first, last) in enumerate(figure.shaded):
        told = short(figure.shaded_as) if not number else None
        axes.axvspan(first - 0.5, last + 0.5, color=EDGE, alpha=0.5, linewidth=0, label=told)
    if figure.unit == "rank":
        axes.set_yscale("log")
        axes.invert_yaxis()
        count_ticks(axes.yaxis)
    if figure.unit in ("nats", "ratio"):
        axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_ylabel(figure.unit if figure.unit != "prob" else "probability")
    axes.set_xlabel("layer (-1: embedding)" if -1 in layers else figure.axis)
    axes.grid(axis="y", color=EDGE, linewidth=0.5)
    seen = {mark.event for line in figure.lines for mark in line.marks}
    for event in (one for one in EVENTS if one in seen):  # empty lines, for the legend alone
        axes.plot([], [], EVENTS[event], color=GONE, markersize=6, label=event)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _mark(axes: Any, canvas: Canvas, mark: kinds.Mark, value: float, colour: str) -> None:
    """Draw entry below its reading, lost above it and the others on it, so that none hides another."""
    from matplotlib.transforms import ScaledTranslation

    inches = {"entry": -0.11, "lost": 0.11}.get(mark.event, 0.0)
    moved = axes.transData + ScaledTranslation(0, inches, canvas.dpi_scale_trans)
    axes.plot(
        mark.layer,
        value,
        EVENTS[mark.event],
        color=colour,
        markersize=6,
        markeredgecolor="white",
        transform=moved,
    )


def columns(figure: kinds.Columns, canvas: Canvas) -> None:
    """Draw a count for each label of an ordered axis."""
    from matplotlib.ticker import MaxNLocator

    axes = canvas.subplots()
    axes.bar(range(len(figure.values)), [value or 0 for value in figure.values], color=LINES_LIGHT[0])
    every = -(-len(figure.labels) // 32)
    axes.set_xticks(range(0, len(figure.labels), every), figure.labels[::every])
    axes.set_xlabel(figure.x_title)
    axes.set_ylabel(figure.value_title)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
