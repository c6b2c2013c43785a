"""Draw what each part of the prompt was weighed, what it carried and what it wrote, side by side by layer."""

from __future__ import annotations

from collections.abc import Mapping

from elimtool.prompts.prompt import NULL
from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Heat, Number
from elimtool.report.figures.words import label, quoted
from elimtool.report.numbers import mean

MOST = 8
"""Parts that are drawn: those that wrote or were weighed most."""
SHARES = {"mass": "weight", "norm_share": "norm", "contribution": "stream"}
"""Columns of ``attention`` that are shares of a layer, and what the figure calls them."""
ALL = "all"
NOTE = (
    "Weight: share of attention, mean over heads. Norm: share of what heads moved. Stream: contribution to"
    " the stream behind attention, a share too. Wrote: for (positive) or against the target, over what all"
    " parts wrote in the layer that wrote most. First column: mean over layers;"
    " of what was written, share of all."
)
HOW = " What each layer wrote is in runs with `heads`."


def content(probe: Probe, target: str | None = None) -> list[Heat]:
    """Map weight, norm, contribution and what was written, for the parts that matter to one target."""
    rows = [row for row in probe.rows("source_spans") if row["top_layer"] is not None]
    wanted = target or next((row["target"] for row in rows), None)
    wrote = {row["span"]: row["dla_centred"] for row in rows if row["target"] == wanted}
    if not wrote:
        return []
    shares, layers = _shares(probe)
    given = _written(probe, wanted)
    layers = layers or sorted({layer for some in given.values() for layer in some}, key=int)
    total = sum(map(abs, wrote.values())) or 1.0
    each = [sum(abs(some.get(layer, 0.0)) for some in given.values()) for layer in layers]
    most = max(each, default=0.0) or 1.0
    chosen = _chosen(wrote, shares.get("mass", {}))
    names: list[str] = []
    values: list[list[Number]] = []
    starts: list[int] = []
    for span in chosen:
        starts.append(len(names))
        for measure, said in SHARES.items():
            if span in shares.get(measure, {}):
                own = shares[measure][span]
                names.append(f"{said} · {label(span)}")
                values.append([mean(own.values()), *(own.get(layer) for layer in layers)])
        of_span = given.get(span, {})
        names.append(f"wrote · {label(span)}")
        values.append(
            [wrote[span] / total, *(of_span[layer] / most if layer in of_span else None for layer in layers)]
        )
    left = len(wrote) - len(chosen)
    return [
        Heat(
            name="content",
            title=f"Weighed, carried and written for {quoted(str(wanted))}, part by part and layer by layer",
            note=NOTE + ("" if given else HOW) + (f" Not drawn: {left:,} other parts." if left else ""),
            row_title="part",
            column_title="layer",
            rows=names,
            columns=[ALL, *layers],
            values=values,
            unit="part",
            value_title="share, of what was written signed",
            blank="not measured, or no token of the part is seen",
            starts=starts[1:],
        )
    ]


def _shares(probe: Probe) -> tuple[dict[str, dict[str, dict[str, Number]]], list[str]]:
    """Read the shares of attention that the run has, and its layers."""
    found = probe.columns("attention", ("span", "layer", *SHARES))
    shares: dict[str, dict[str, dict[str, Number]]] = {}
    for place, (span, layer) in enumerate(zip(found["span"], found["layer"], strict=True)):
        for measure in SHARES:
            value = found[measure][place]
            if value is not None and span != NULL:
                shares.setdefault(measure, {}).setdefault(span, {})[str(layer)] = value
    return shares, [str(layer) for layer in sorted(set(found["layer"]))]


def _written(probe: Probe, target: str | None) -> dict[str, dict[str, float]]:
    """Sum what the heads of each layer wrote from each part; nothing without single heads."""
    found = probe.columns("sources", ("target", "span", "layer", "dla_centred"))
    summed: dict[str, dict[str, float]] = {}
    for name, span, layer, value in zip(*found.values(), strict=True):
        if name == target:
            own = summed.setdefault(span, {})
            own[str(layer)] = own.get(str(layer), 0.0) + value
    return summed


def _chosen(wrote: Mapping[str, float], mass: Mapping[str, Mapping[str, Number]]) -> list[str]:
    """Choose the parts to draw, in the order of the prompt."""
    total = sum(map(abs, wrote.values())) or 1.0
    size = {
        span: max(abs(value) / total, mean(mass.get(span, {}).values()) or 0.0)
        for span, value in wrote.items()
    }
    most = set(sorted(size, key=lambda span: -size[span])[:MOST])
    return [span for span in wrote if span in most]
