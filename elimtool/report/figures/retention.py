"""Draw attention at one position: heat maps of spans by layer and by head."""

from __future__ import annotations

from collections import Counter
from typing import Any

from elimtool.prompts.prompt import NULL, SINK
from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Heat, Number
from elimtool.report.figures.words import label, quoted

NOTE = (
    "Attention that the probed token gives to each span, relative to an even share over all keys outside the"
    " sink (1x); mean over heads. Under 0.25x counts as eliminated. Attention is not causal evidence."
)
LEAVES_LITTLE = "the head leaves less than 0.01 outside the sink, or sees no token of the span"
OF_HEADS = "share of the head's attention outside the sink"
HEADS_NOTE = f"Share of each head's attention outside the sink. Blank: {LEAVES_LITTLE}."


def retention(probe: Probe) -> list[Heat]:
    """Map what each span keeps, layer by layer; empty where attention was not measured."""
    found = probe.columns("attention", ("span", "layer", "span_size", "lift_no_sink"))
    spans = list(dict.fromkeys(span for span in found["span"] if span not in (SINK, NULL)))
    layers = sorted(set(found["layer"]))
    rows = {span: index for index, span in enumerate(spans)}
    columns = {layer: index for index, layer in enumerate(layers)}
    values: list[list[Number]] = [[None] * len(layers) for _ in spans]
    masked: list[tuple[int, int]] = []
    for span, layer, size, lift in zip(*found.values(), strict=True):
        if span in rows:
            values[rows[span]][columns[layer]] = lift
            if not size:
                masked.append((rows[span], columns[layer]))
    hidden = Counter(row for row, _ in masked)
    seen = [index for index in range(len(spans)) if hidden[index] < len(layers)]  # in some layer
    if not seen:
        return []
    place = {old: new for new, old in enumerate(seen)}
    return [
        Heat(
            name="retention",
            title=f"What {quoted(probe.shown[probe.position])} attends to, by layer",
            note=" ".join([NOTE, *([f"Not drawn: {why}."] if (why := probe.without_weights) else [])]),
            row_title="span",
            column_title="layer",
            rows=[label(spans[index]) for index in seen],
            columns=[str(layer) for layer in layers],
            values=[values[index] for index in seen],
            unit="lift",
            value_title="attention, times an even share",
            blank="no key outside the sink is left to attend to",
            masked=[(place[row], column) for row, column in masked if row in place],
        )
    ]


def sink(probe: Probe) -> list[Heat]:
    """Map the shares of the sink, of eliminated keys, of keys outside the window and of no key, by layer."""
    names = {"sink_mass": "on the sink", "eliminated_frac": "eliminated", "masked_frac": "out of window"}
    rows = [row for row in probe.rows("attention_layers") if row.get("no_weights") is None]
    rows.sort(key=lambda row: int(row["layer"]))
    shown: dict[str, list[Number]] = {said: [row[name] for row in rows] for name, said in names.items()}
    null = {row["layer"]: row["mass"] for row in probe.rows("attention") if row["span"] == NULL}
    shown["on no key"] = [null.get(row["layer"]) for row in rows]
    shown = {name: values for name, values in shown.items() if any(values)}
    if not shown:
        return []
    note = "Shares, mean over heads. The sink set is kept apart from the map above."
    return [
        Heat(
            name="sink",
            title="What the attention sink takes, and what is eliminated, by layer",
            note=f"{note} What is on no key goes to a score that the model learned." if null else note,
            row_title="share",
            column_title="layer",
            rows=list(shown),
            columns=[str(row["layer"]) for row in rows],
            values=list(shown.values()),
            unit="share",
            value_title="share, mean over heads",
        )
    ]


def heads(probe: Probe) -> dict[str, Any] | None:
    """Gather the heads behind ``retention``: {"layers": [layer], "values": [layer][span][head], ...}."""
    found = probe.columns("attention_heads", ("span", "layer", "head", "mass_no_sink"))
    if not found["span"]:
        return None
    spans = [span for span in dict.fromkeys(found["span"]) if span not in (SINK, NULL)]
    layers = sorted(set(found["layer"]))
    count = probe.run.n_heads or 0
    rows = {span: index for index, span in enumerate(spans)}
    columns = {layer: index for index, layer in enumerate(layers)}
    values: list[list[list[Number]]] = [[[None] * count for _ in spans] for _ in layers]
    for span, layer, head, mass in zip(*found.values(), strict=True):
        if span in rows:
            values[columns[layer]][rows[span]][head] = mass
    return {
        "layers": layers,
        "spans": [label(span) for span in spans],
        "values": values,
        "note": HEADS_NOTE,
        "value_title": OF_HEADS,
        "blank": LEAVES_LITTLE,
    }


def heads_of_layer(probe: Probe, layer: int) -> list[Heat]:
    """Map what each head of a layer keeps of each span."""
    found = heads(probe)
    if found is None or layer not in found["layers"]:
        return []
    values = found["values"][found["layers"].index(layer)]
    return [
        Heat(
            name="heads",
            title=f"Heads of layer {layer}",
            note=HEADS_NOTE,
            row_title="span",
            column_title="head",
            rows=found["spans"],
            columns=[str(head) for head in range(len(values[0]) if values else 0)],
            values=values,
            unit="share",
            value_title=OF_HEADS,
            blank=LEAVES_LITTLE,
        )
    ]
