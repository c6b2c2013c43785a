"""Draw what layers hold as grids: the logit lens by position, attribution and attention by head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elimtool.report.facts import Probe
from elimtool.report.figures.course import RAW_NOTE
from elimtool.report.figures.figure import Heat, Number
from elimtool.report.figures.palette import steps_around_zero
from elimtool.report.figures.retention import HEADS_NOTE, heads
from elimtool.report.figures.words import SCREEN, label, quoted

WORD = 24
"""Longest word in a cell, in character cells; the page and the picture cut it to their widths."""
MOST_KEYS = 48
"""Keys, and at most as many queries, of a picture of an attention matrix: as many labels have room."""
MOST_TARGETS = 3
"""Targets that a page colours the grid by."""
WROTE_NOTE = (
    "Direct logit attribution, centred over the vocabulary: blue promotes the token, orange eliminates it. It"
    " says what was written in the token's direction, not what caused it."
)
ABLATED_NOTE = (
    "Each head and MLP by itself is replaced by its mean over reference text, at every token but the sinks:"
    " blue where the token loses by that, orange where it gains. Other components compensate, so a small"
    " effect does not clear one."
)
ONE_POSITION = " Only one position was probed: with `position` all this is a grid."


def logit_lens(probe: Probe, target: str | None = None, most: int | None = None) -> list[Heat]:
    """Map the most probable token after each layer at every probed position of the prompt.

    Args:
        probe: The last position to show.
        target: Colour by the rank of this followed token; by the top token's probability if None.
        most: Largest number of positions, the last ones up to the probe's; all of the prompt if None.
    """
    top = probe.of_prompt("lens_layers", ("position", "layer", "top_token", "top_prob"))
    positions = sorted(set(top["position"]))
    shown = positions if most is None else [one for one in positions if one <= probe.position][-most:]
    layers = sorted(set(top["layer"]), reverse=True)
    if not shown:
        return []
    words: dict[tuple[int, int], str] = {}
    values: dict[tuple[int, int], Number] = {}
    for position, layer, token, prob in zip(*top.values(), strict=True):
        words[layer, position] = SCREEN.shorten(SCREEN.spaced(token), WORD)
        values[layer, position] = prob
    if target is not None:
        ranks = probe.of_prompt("lens", ("position", "layer", "target", "rank"))
        own = zip(*ranks.values(), strict=True)
        values = {(layer, position): rank for position, layer, name, rank in own if name == target}
    note = "Top row: the model's output. Each cell has the token that its layer would write next."
    note += f" {RAW_NOTE}" if probe.lens == "raw" else ""
    return [
        Heat(
            name="logit_lens",
            title=f"Logit lens ({probe.lens}): the top token after each layer"
            + ("" if target is None else f", coloured by the rank of {quoted(target)}"),
            note=note + (ONE_POSITION if len(positions) == 1 else ""),
            row_title="layer",
            column_title="position",
            rows=_names(layers),
            columns=[f"{one}: {label(probe.shown[one].strip(' ') or probe.shown[one])}" for one in shown],
            values=[[values.get((layer, one)) for one in shown] for layer in layers],
            words=[[words[layer, one] for one in shown] for layer in layers],
            unit="prob" if target is None else "rank",
            value_title="probability of the top token" if target is None else f"rank of {quoted(target)}",
            blank="the token was not followed at this position",
            left_out=_shown(shown, positions),
        )
    ]


def _shown(shown: Sequence[int], positions: Sequence[int]) -> str:
    """Say which of the probed positions a grid has, where these are few."""
    if len(positions) == 1:
        return f"Only position {positions[0]} was probed."
    if len(shown) == len(positions):
        return ""
    return f"Shown: positions {shown[0]} to {shown[-1]}, {len(shown)} of {len(positions)} probed."


def logit_lenses(probe: Probe, most: int) -> list[Heat]:
    """Map the top tokens once by their own probability, and once by the rank of each followed target."""
    followed = probe.of_prompt("lens", ("target", "is_foil", "position"))
    counted: dict[str, set[int]] = {}
    for target, foil, position in zip(*followed.values(), strict=True):
        if not foil:
            counted.setdefault(target, set()).add(position)
    positions = max((len(one) for one in counted.values()), default=0)
    asked = [target for target, at in counted.items() if len(at) == positions][:MOST_TARGETS]
    ranked = [one for target in asked for one in logit_lens(probe, target, most)]
    return [*ranked, *logit_lens(probe, None, most)]


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
    found = probe.columns("ablations", ("target", "kind", "layer", "head", "effect"))
    return [
        _of_parts(
            {place: -effect for place, effect in cells.items()},
            name="head_ablation",
            title=f"What {quoted(name)} loses without each head and MLP",
            note=ABLATED_NOTE,
            unit="shift",
            value_title="loss of log-probability without it (nats)",
        )
        for name, cells in _by_target(found, target).items()
    ]


def _by_target(found: dict[str, list[Any]], target: str | None) -> dict[str, dict[tuple[int, int], float]]:
    """Gather each target's values by layer and head, -1 for the MLP."""
    parts: dict[str, dict[tuple[int, int], float]] = {}
    for name, kind, layer, head, value in zip(*found.values(), strict=True):
        if kind in ("head", "mlp") and target in (None, name):
            parts.setdefault(name, {})[layer, -1 if kind == "mlp" else head] = value
    return parts


def _of_parts(cells: dict[tuple[int, int], float], **shown: Any) -> Heat:
    layers = sorted({layer for layer, _ in cells}, reverse=True)
    numbers = sorted({head for _, head in cells} - {-1})
    mlps = [-1] if any(head < 0 for _, head in cells) else []
    return Heat(
        row_title="layer",
        column_title="head",
        rows=_names(layers),
        columns=[*map(str, numbers), *("MLP" for _ in mlps)],
        values=[[cells.get((layer, head)) for head in [*numbers, *mlps]] for layer in layers],
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
