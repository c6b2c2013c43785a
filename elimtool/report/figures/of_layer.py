"""Show one layer: which tokens lead after it, and what its heads and its MLP write for each target."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.prompts.component import parse_component
from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Figure, Listing
from elimtool.report.figures.parts import NOTE, drawn
from elimtool.report.figures.words import quoted


def of_layer(probe: Probe, layer: int) -> list[Figure]:
    """Make the figures of a layer, -1 for the embedding; those that the run's tables can fill."""
    return [*_leaders(probe, layer), *_writers(probe, layer)]


def _leaders(probe: Probe, layer: int) -> list[Figure]:
    where = "the embedding" if layer < 0 else f"layer {layer}"
    rows = [
        [quoted(one["target"]), one["rank"], one["prob"]]
        for one in probe.rows("lens")
        if one["layer"] == layer
    ]
    top = next((one for one in probe.rows("lens_layers") if one["layer"] == layer), None)
    first = "" if top is None else f" {quoted(top['top_token'])} leads, p {spell_prob(top['top_prob'])}."
    if not rows and not first:
        return []
    return [
        Listing(
            name="layer_tokens",
            title=f"After {where}",
            note=f"Read through the lens {probe.lens}.{first}",
            columns=["token", "rank", "probability"],
            rows=rows,
        )
    ]


def _writers(probe: Probe, layer: int) -> list[Figure]:
    found = probe.columns("components", ("target", "component", "dla_centred"))
    parts: dict[str, list[tuple[str, float]]] = {}
    for target, component, value in zip(*found.values(), strict=True):
        place = parse_component(component)
        if value is not None and place is not None and place[0] == layer:
            parts.setdefault(target, []).append((component, value))
    return [
        drawn(
            *(
                "layer_components",
                f"What layer {layer} writes for and against {quoted(target)}",
                NOTE,
                "logits",
            ),
            some,
        )
        for target, some in parts.items()
    ]
