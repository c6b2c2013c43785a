"""List the figures of one prompt and position, by name, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from elimtool.report.brought import brought
from elimtool.report.facts import Probe
from elimtool.report.figures.associations import associations
from elimtool.report.figures.attribute import attribution
from elimtool.report.figures.content import content
from elimtool.report.figures.contrast import contrast, contrast_components, contrast_stages
from elimtool.report.figures.course import probabilities, ranks
from elimtool.report.figures.experts import experts
from elimtool.report.figures.figure import Figure
from elimtool.report.figures.funnel import differences, funnel
from elimtool.report.figures.layers import head_ablation, head_attribution
from elimtool.report.figures.located import located_maps
from elimtool.report.figures.mapped import mapped_heads
from elimtool.report.figures.parts import components
from elimtool.report.figures.retention import retention, sink
from elimtool.report.figures.walked import interventions, top_tokens

PROMPT: dict[str, Callable[[Probe], Sequence[Figure]]] = {
    "attribution": attribution,
    "locations": located_maps,
    "interventions": interventions,
    "retention": retention,
    "content": content,
    "sink": sink,
    "ranks": ranks,
    "probabilities": probabilities,
    "associations": associations,
    "contrast": contrast,
    "funnel": funnel,
    "differences": differences,
    "contrast_stages": contrast_stages,
    "components": components,
    "head_attribution": head_attribution,
    "head_ablation": head_ablation,
    "mapped_heads": mapped_heads,
    "contrast_components": contrast_components,
    "experts": experts,
    "top_tokens": top_tokens,
    "brought": brought,
}


def figures(probe: Probe) -> list[Figure]:
    """Make every figure of a position that the run's tables can fill."""
    return [one for make in PROMPT.values() for one in make(probe)]
