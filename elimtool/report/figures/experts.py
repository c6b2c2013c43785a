"""Draw what the routers of a mixture of experts chose, layer by layer."""

from __future__ import annotations

from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Heat, Number

COLUMNS = ("layer", "expert", "router_prob", "chosen", "rank", "weight")


def experts(probe: Probe) -> list[Heat]:
    """Map the router's scores of every expert; empty for a model without experts."""
    found = probe.columns("experts", COLUMNS)
    if not any(score is not None for score in found["router_prob"]):
        return []
    layers = sorted(set(found["layer"]))
    count = max(found["expert"]) + 1
    values: list[list[Number]] = [[None] * count for _ in layers]
    details = [[""] * count for _ in layers]
    idle: list[tuple[int, int]] = []
    for layer, expert, score, chosen, rank, weight in zip(*found.values(), strict=True):
        row = layers.index(layer)
        values[row][expert] = score
        details[row][expert] = f"rank {rank:,}" + (f", weight {weight:.3g}" if chosen else ", did not run")
        if not chosen:
            idle.append((row, expert))
    return [
        Heat(
            name="experts",
            title="What the routers gave each expert, by layer",
            note="Each router's score of its layer's experts. Those that did not run are drawn small: their"
            " scores are the mass that was dropped.",
            row_title="layer",
            column_title="expert",
            rows=[str(layer) for layer in layers],
            columns=[str(expert) for expert in range(count)],
            values=values,
            unit="share",
            value_title="the router's score",
            details=details,
            blank="the router's scores cannot be seen, or the layer has fewer experts",
            dimmed=idle,
            dimmed_as="did not run",
        )
    ]
