"""Draw what heads do as grids: attribution, ablation and attention by layer and head."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from elimtool.report.facts import Probe
from elimtool.report.figures.figure import Heat, Number
from elimtool.report.figures.logit_lens import ONE_POSITION
from elimtool.report.figures.palette import steps_around_zero
from elimtool.report.figures.retention import HEADS_NOTE, heads
from elimtool.report.figures.words import label, quoted

MOST_KEYS = 48
"""Keys, and at most as many queries, of a picture of an attention matrix: as many labels have room."""
WROTE_NOTE = (
    "Direct logit attribution, centred over the vocabulary: blue promotes the token, orange eliminates it. It"
    " says what was written in the token's direction, not what caused it."
)
ABLATED_NOTE = (
    "Each head and MLP by itself is replaced by its mean over reference text, at every token but the sinks:"
    " blue where the token loses by that, orange where it gains. Small cells are within what 95 % of 20"
    " random components of their kind do, from the nearest layers. Other components compensate, so a small"
    " effect does not clear one."
)
WITHIN_NULL = "within the null, other components of its kind"


def head_attribution(probe: Probe, target: str | None = None) -> list[Heat]:
    """Map what each head and MLP wrote for and against each target, or one of them: layers x heads."""
    found = probe.columns("components", ("target", "kind", "layer", "head", "dla_centred"))
    return [
        _of_parts(
            cells,
            name="head_attribution",
            title=f"Which heads and MLPs wrote for and against {quoted(name)}",
            note=WROTE_NOTE,
            unit="logits",
            value_title="direct logit attribution (logits)",
            steps=steps_around_zero(cells.values()),
        )
        for name, cells in _by_target(found, target).items()
    ]


def head_ablation(probe: Probe, target: str | None = None) -> list[Heat]:
    """Map what each target, or one of them, loses without each head and MLP: layers x heads."""
    key = ("target", "kind", "layer", "head")
    effects, within = (
        _by_target(probe.columns("ablations", (*key, name)), target) for name in ("effect", "beyond")
    )
    return [
        _of_parts(
            {place: -effect for place, effect in cells.items()},
            {place for place, beyond in within.get(name, {}).items() if beyond is False},
            name="head_ablation",
            title=f"What {quoted(name)} loses without each head and MLP",
            note=ABLATED_NOTE,
            unit="shift",
            value_title="loss of log-probability without it (nats)",
        )
        for name, cells in effects.items()
    ]


def _by_target(found: dict[str, list[Any]], target: str | None) -> dict[str, dict[tuple[int, int], float]]:
    """Gather each target's values by layer and head, -1 for the MLP."""
    parts: dict[str, dict[tuple[int, int], float]] = {}
    for name, kind, layer, head, value in zip(*found.values(), strict=True):
        if kind in ("head", "mlp") and target in (None, name):
            parts.setdefault(name, {})[layer, -1 if kind == "mlp" else head] = value
    return parts


def _of_parts(
    cells: dict[tuple[int, int], float], small: Container[tuple[int, int]] = (), **shown: Any
) -> Heat:
    """Lay out parts by layer and head; those of ``small`` do not exceed their null."""
    layers = sorted({layer for layer, _ in cells}, reverse=True)
    numbers = sorted({head for _, head in cells} - {-1})
    mlps = [-1] if any(head < 0 for _, head in cells) else []
    return Heat(
        row_title="layer",
        column_title="head",
        rows=_names(layers),
        columns=[*map(str, numbers), *("MLP" for _ in mlps)],
        values=[[cells.get((layer, head)) for head in [*numbers, *mlps]] for layer in layers],
        dimmed=[
            (row, column)
            for row, layer in enumerate(layers)
            for column, head in enumerate([*numbers, *mlps])
            if (layer, head) in small
        ],
        dimmed_as=WITHIN_NULL,
        blank="the layer has no such part, or its update is not the sum of its parts",
        **shown,
    )


def head_attention(probe: Probe, span: str | None = None) -> list[Heat]:
    """Map which heads attend to each span, or to one: layers x heads."""
    found = heads(probe)
    if found is None:
        return []
    layers = found["layers"]
    return [
        Heat(
            name="head_attention",
            title=f"Which heads attend to {shown}",
            note=HEADS_NOTE,
            row_title="layer",
            column_title="head",
            rows=_names(layers[::-1]),
            columns=[str(head) for head in range(probe.run.n_heads or 0)],
            values=[layer[at] for layer in found["values"][::-1]],
            unit="share",
            value_title=found["value_title"],
            blank=found["blank"],
        )
        for at, shown in enumerate(found["spans"])
        if span is None or shown == label(span)
    ]


def attention_matrix(probe: Probe, head: str | None = None, most: int = MOST_KEYS) -> list[Heat]:
    """Map the attention weights of each head that the run kept, or of one: queries x keys.

    Args:
        probe: The last position to show.
        head: The one head, such as ``17.3``.
        most: Largest number of keys, the last ones up to the probe's.
    """
    found = probe.of_prompt("attention_weights", ("layer", "head", "position", "key", "weight"))
    matrices: dict[str, dict[tuple[int, int], Number]] = {}
    for layer, number, position, key, weight in zip(*found.values(), strict=True):
        if head in (None, f"{layer}.{number}") and position <= probe.position:
            matrices.setdefault(f"{layer}.{number}", {})[position, key] = weight
    return [_matrix(probe, name, weights, most) for name, weights in matrices.items()]


def _matrix(probe: Probe, head: str, weights: dict[tuple[int, int], Number], most: int) -> Heat:
    keys = sorted({key for _, key in weights})[-most:]
    queries = sorted({position for position, _ in weights})
    shown = [position for position in queries if position >= keys[0]]
    token = {at: f"{at}: {label(text.strip(' ') or text)}" for at, text in enumerate(probe.shown)}
    left = (
        f"Tokens {keys[0]} to {keys[-1]}; earlier keys, and what they get, are left out." if keys[0] else ""
    )
    return Heat(
        name="attention_matrix",
        title=f"Attention of head {head}",
        note="The weights of each query on the keys up to it sum to 1. Attention is not causal evidence."
        + (ONE_POSITION if len(queries) == 1 else ""),
        row_title="query",
        column_title="key",
        rows=[token[position] for position in shown],
        columns=[token[key] for key in keys],
        values=[[weights.get((position, key)) for key in keys] for position in shown],
        unit="share",
        value_title="attention weight",
        blank="the layer's sliding window hides the key",
        masked=[
            (row, column)
            for row, position in enumerate(shown)
            for column, key in enumerate(keys)
            if key > position
        ],
        masked_as="later than the query",
        left_out=left,
    )


def _names(layers: Sequence[int]) -> list[str]:
    return ["embedding" if layer < 0 else str(layer) for layer in layers]
