"""Draw grids of coloured cells with matplotlib: heat maps, with words in their cells or without."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from elimtool.report.figures import figure as kinds
from elimtool.report.figures.palette import HEAT_LIGHT, RANK_BANDS, SHIFT_LIGHT, STEPS
from elimtool.report.figures.plots.ink import EDGE, GONE, INK, WIDTH, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ROW, WORD_ROW, WIDEST = 0.17, 0.19, 0.62
"""Inches: height of a row, of a row with words, and largest width of a column."""
TALLEST = 11.0
"""Inches: at most a page high."""
MOST_LABELS = 32
"""Column labels that have room."""
LETTER = 0.008
"""Width of a letter of a word, in inches for each point of its size, about."""
SMALL = 0.42
"""Side of a dimmed cell, as a share of a whole one."""


def heat(figure: kinds.Heat, canvas: Canvas) -> None:
    """Draw cells in steps of lightness; hidden ones are hatched, those that do not count small."""
    rows, columns = len(figure.rows), len(figure.columns)
    margins = 1.4 + (0.5 if _upright(figure) else 0.0)
    canvas.set_size_inches(WIDTH, min(margins + (WORD_ROW if figure.words else ROW) * rows, TALLEST))
    used = min(columns * WIDEST, WIDTH - 1.6)
    # what few columns do not need stays empty: wide cells would look like bars
    axes, rest = canvas.subplots(1, 2, width_ratios=(used, max(WIDTH - 1.6 - used, 1e-3)))
    rest.set_axis_off()
    borders = figure.steps or STEPS[figure.unit]
    colours = _colours(figure, borders)
    steps = [[None if one is None else bisect_right(borders, one) for one in row] for row in figure.values]
    image = _cells(figure, axes, steps, colours)
    _labels(figure, axes)
    _legend(figure, canvas, axes, image, borders)
    if figure.words:
        _words(figure, axes, steps, colours, used / columns)


def _colours(figure: kinds.Heat, borders: Sequence[float]) -> tuple[str, ...]:
    """Choose one colour a step; the best rank is the darkest."""
    if len(borders) == len(SHIFT_LIGHT) - 1:
        return SHIFT_LIGHT
    return HEAT_LIGHT[::-1] if figure.unit == "rank" else HEAT_LIGHT


def _cells(figure: kinds.Heat, axes: Any, steps: list[list[int | None]], colours: tuple[str, ...]) -> Any:
    import numpy as np
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Rectangle

    drawn = np.array([[np.nan if one is None else one for one in row] for row in steps], dtype=float)
    for row, column in figure.dimmed:
        drawn[row, column] = np.nan
    image = axes.imshow(
        drawn,
        cmap=ListedColormap(colours),
        norm=BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours)),
        aspect="auto",
        interpolation="none",
    )
    for row, column in figure.dimmed:
        if (step := steps[row][column]) is not None:
            corner = (column - SMALL / 2, row - SMALL / 2)
            axes.add_patch(
                Rectangle(corner, SMALL, SMALL, facecolor=colours[step], edgecolor=EDGE, linewidth=0.3)
            )
    for row, column in figure.masked:
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor=EDGE, linewidth=0)
        )
    return image


def _upright(figure: kinds.Heat) -> bool:
    """Whether column labels stand upright, as texts do over narrow cells."""
    return len(figure.columns) > 7 and any(len(name) > 3 for name in figure.columns)


def _labels(figure: kinds.Heat, axes: Any) -> None:
    axes.set_yticks(range(len(figure.rows)), [short(name) for name in figure.rows])
    numbered = all(name.isdigit() for name in figure.columns)
    every = (
        -(-len(figure.columns) // MOST_LABELS) if numbered else -(-len(figure.columns) // (2 * MOST_LABELS))
    )
    names = [short(name, 14) if _upright(figure) else short(name) for name in figure.columns[::every]]
    axes.set_xticks(range(0, len(figure.columns), every), names, rotation=90 if _upright(figure) else 0)
    if not numbered:
        axes.tick_params(axis="x", labelsize=6.5)
    axes.set_xlabel(figure.column_title)
    axes.set_ylabel(figure.row_title)
    axes.spines[:].set_visible(False)
    axes.set_xticks([at - 0.5 for at in range(len(figure.columns))], minor=True)
    axes.set_yticks([at - 0.5 for at in range(len(figure.rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=0.4)
    axes.tick_params(which="both", length=0)
    for row in figure.starts:
        axes.axhline(row - 0.5, color=INK, linewidth=0.8)


def _legend(figure: kinds.Heat, canvas: Canvas, axes: Any, image: Any, borders: Sequence[float]) -> None:
    """Draw the colour bar with its title, and say below what other cells mean."""
    named = figure.unit == "rank"
    ticks = range(len(RANK_BANDS)) if named else [at + 0.5 for at in range(len(borders))]
    bar = canvas.colorbar(image, ax=axes, ticks=ticks, pad=0.02, aspect=30)
    bar.ax.set_yticklabels(
        RANK_BANDS if named else [_border(one, figure.unit) for one in borders], fontsize=6.5
    )
    if named:
        bar.ax.invert_yaxis()
    bar.set_label(figure.value_title, fontsize=7)
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    blank = any(one is None for row in figure.values for one in row)
    hidden = {*figure.masked}
    told = [
        f"White: {figure.blank}." if blank and not _only(figure, hidden) else "",
        f"Hatched: {figure.masked_as}." if hidden else "",
        f"Small: {figure.dimmed_as}." if figure.dimmed else "",
        figure.left_out,
    ]
    if small := " ".join(one for one in told if one):
        canvas.supxlabel("\n".join(wrap(small, 130)), x=0.01, ha="left", fontsize=6.5, color=GONE)


def _only(figure: kinds.Heat, hidden: set[tuple[int, int]]) -> bool:
    """Whether every cell without a value is a hidden one."""
    cells = (
        (row, column)
        for row, line in enumerate(figure.values)
        for column, one in enumerate(line)
        if one is None
    )
    return all(cell in hidden for cell in cells)


def _border(value: float, unit: str) -> str:
    if unit in ("shift", "logits", "restored", "part"):
        return f"{value:+g}"
    return {"lift": f"{value:g}x", "prob": f"{value:g}"}.get(unit, f"{100 * value:g}%")


def _words(
    figure: kinds.Heat, axes: Any, steps: list[list[int | None]], colours: tuple[str, ...], width: float
) -> None:
    """Write the word of each cell, in the ink that its colour asks for."""
    size = 6.5 if width > 0.5 else 5.5
    room = max(int(width / (LETTER * size)), 3)
    dimmed = {*figure.dimmed}
    for row, words in enumerate(figure.words):
        for column, word in enumerate(words):
            step = steps[row][column]
            plain = step is None or (row, column) in dimmed
            ink = GONE if plain else _ink_on(colours[step or 0])
            axes.text(column, row, short(word, room), ha="center", va="center", fontsize=size, color=ink)


def _ink_on(colour: str) -> str:
    """Choose dark or white ink by the colour's lightness."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else "white"
