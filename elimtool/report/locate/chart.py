"""Draw the map of the residual stream on a terminal: a line a token, a column a layer."""

from __future__ import annotations

from rich.text import Text

from elimtool.files.rows import Rows
from elimtool.report.locate.rows import Grid, by_cell
from elimtool.report.screen import Screen, padded

NAME = 18
MOST_LINES = 24
"""Tokens shown; of more those whose cells count."""
DOT = "."


def chart(rows: Rows, tokens: list[str], screen: Screen) -> list[Text]:
    """Draw r and q side by side, or below one another where both do not fit; nothing without the stream."""
    grid = by_cell(rows, "residual")
    if not grid:
        return []
    layers = sorted({layer for layer, _ in grid})
    positions = sorted({position for _, position in grid if grid[layers[0], position]["extent"] != "shared"})
    counted = [
        at
        for at in positions
        if any(grid[layer, at]["r_counts"] or grid[layer, at]["q_counts"] for layer in layers)
    ]
    shown = positions if len(positions) <= MOST_LINES else counted[-MOST_LINES:]
    per = -(-(len(layers)) // max(screen.width - NAME - 4, 10))
    bands = [layers[at : at + per] for at in range(0, len(layers), per)]
    together = NAME + 2 * len(bands) + 6 <= screen.width
    low, high = screen.steps[0], screen.steps[7]
    legend = f"{low} under an eighth, {high} over seven eighths, {DOT} not above the null"
    lines = screen.titled("Residual stream, by layer", legend)
    kinds = [("r", "restored by the clean state"), ("q", "destroyed by the corrupt")]
    for columns in [kinds] if together else [[one] for one in kinds]:
        lines += _block(grid, columns, shown, bands, tokens, screen)
    return lines


def _block(
    grid: Grid,
    kinds: list[tuple[str, str]],
    positions: list[int],
    bands: list[list[int]],
    tokens: list[str],
    screen: Screen,
) -> list[Text]:
    head, scale = Text(" " * NAME, style="dim"), Text(padded("layer", NAME), style="dim")
    for _, name in kinds:
        head.append(padded(screen.shorten(name, len(bands) + 2), len(bands) + 3))
        scale.append(padded(_scale(bands), len(bands) + 3))
    lines = [head, scale]
    for position in positions:
        token = screen.shorten(screen.spaced(tokens[position].strip(" ") or tokens[position]), NAME - 7)
        line = Text(f"{position:>4} {padded(token, NAME - 5)}")
        for kind, _ in kinds:
            line.append("".join(_step(grid, kind, position, band, screen) for band in bands), style="magenta")
            line.append("   ")
        line.rstrip()
        lines.append(line)
    return lines


def _scale(bands: list[list[int]]) -> str:
    """Numbers of the first layers of some columns, at least four apart."""
    drawn = ""
    for at, band in enumerate(bands):
        name = "e" if band[0] < 0 else str(band[0])
        if (band[0] < 0 or band[0] % 5 == 0) and (not drawn or at >= len(drawn) + 1):
            drawn = drawn.ljust(at) + name
    return drawn


def _step(grid: Grid, kind: str, position: int, band: list[int], screen: Screen) -> str:
    rows = [grid[layer, position] for layer in band]
    values = [row[kind] for row in rows if row[f"{kind}_counts"]]
    if not values:
        return DOT
    best = max(values, key=abs)
    return "-" if best < 0 else screen.steps[max(0, min(7, int(best * 8)))]
