"""Choose the milestones of a trajectory: the layers at which its rank changes enough to be named."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

from elimtool.analysis.closing import at_layer, commit_layer, from_layer
from elimtool.report.screen import Screen

MOST = 4
LEAST_BEND = 0.6
"""A layer between two milestones is named if its rank is off their line by this many powers of ten."""


def milestones(ranks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Choose the layers and ranks that sketch a trajectory on a logarithmic scale.

    The first reading, the best rank if it is better than the last, and the layer from which on the final
    rank holds are always among them; then the readings that stray most from the lines between these.
    """
    layers = [layer for layer, _ in ranks]
    logs = [log10(rank) for _, rank in ranks]
    end = layers.index(commit_layer(ranks))
    best = min(range(len(ranks)), key=lambda index: logs[index])
    chosen = {0, end} | ({best} if logs[best] < logs[-1] else set())
    while len(chosen) < MOST:
        # of equal bends the later layer is taken
        bend, index = max((_bend(index, chosen, logs), index) for index in range(len(ranks)))
        if bend < LEAST_BEND:
            break
        chosen.add(index)
    return [ranks[index] for index in sorted(chosen)]


def _bend(index: int, chosen: set[int], logs: Sequence[float]) -> float:
    """Distance of a reading from the line between its chosen neighbours; 0 outside them."""
    before = max((i for i in chosen if i <= index), default=None)
    after = min((i for i in chosen if i >= index), default=None)
    if before is None or after is None or before == after:
        return 0.0
    part = (index - before) / (after - before)
    return abs(logs[index] - (logs[before] + part * (logs[after] - logs[before])))


def in_words(ranks: Sequence[tuple[int, int]], screen: Screen) -> str:
    """Write the milestones as a chain of arrows: ``rank 31,204 at the embedding -> 1 from layer 28``."""
    points = milestones(ranks)
    last_layer = ranks[-1][0]
    words = []
    for number, (layer, rank) in enumerate(points):
        if number == len(points) - 1 and layer < last_layer:
            where = f"from {from_layer(layer)} on"
        else:
            where = "at the last layer" if layer == last_layer else at_layer(layer)
        words.append(f"{rank:,} {where}")
    return "rank " + f" {screen.glyph('→')} ".join(words)
