"""Choose which cells to patch: all single ones, or stretches of layers and tokens that are then divided."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, product

from elimtool.model.continued import PatchCell
from elimtool.model.interventions.edits import Kind

FINE = 384
"""Single cells up to which no stretches are needed."""
STRETCHES = 8
"""Stretches of layers, and of tokens, at most."""

Stretch = tuple[int, int]


def stretches(first: int, last: int, count: int) -> list[Stretch]:
    """Divide ``first`` .. ``last`` into at most ``count`` stretches of nearly equal length."""
    size = last - first + 1
    count = min(count, size)
    borders = [first + round(index * size / count) for index in range(count + 1)]
    return [(start, end - 1) for start, end in pairwise(borders)]


def first_cells(kind: Kind, n_layers: int, n_heads: int, positions: Stretch, fine: bool) -> list[PatchCell]:
    """Choose the cells to begin with.

    Args:
        kind: Kind of site.
        n_layers: Layers of the model.
        n_heads: Heads of a layer.
        positions: First and last position that can have an effect.
        fine: Whether to take all single cells, however many.
    """
    lowest = -1 if kind == "residual" else 0
    first, last = positions
    number = (n_layers - lowest) * (last - first + 1) * (n_heads if kind == "heads" else 1)
    whole = PatchCell(kind, lowest, n_layers - 1, first, last)
    if fine or number <= FINE:
        return singles(whole, n_heads)
    tokens = [*(stretches(first, last - 1, STRETCHES - 1) if last > first else []), (last, last)]
    layers = stretches(lowest, n_layers - 1, STRETCHES)
    return [PatchCell(kind, *some, *part) for part, some in product(tokens, layers)]


def singles(cell: PatchCell, n_heads: int) -> list[PatchCell]:
    """Divide a cell into its single ones: one layer, one position, and one head where heads are patched."""
    heads: Iterable[int | None] = range(n_heads) if cell.kind == "heads" else (None,)
    layers = range(cell.first_layer, cell.last_layer + 1)
    positions = range(cell.first, cell.last + 1)
    return [
        PatchCell(cell.kind, layer, layer, position, position, head)
        for position, layer, head in product(positions, layers, heads)
    ]


def is_single(cell: PatchCell) -> bool:
    """Tell whether a cell cannot be divided."""
    together = cell.kind == "heads" and cell.head is None
    return cell.first_layer == cell.last_layer and cell.first == cell.last and not together
