"""Draw the logit lens as a grid: the top token after each layer at each position, coloured in three ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from elimtool.report.facts import Probe
from elimtool.report.figures.course import RAW_NOTE
from elimtool.report.figures.figure import Heat, Number
from elimtool.report.figures.words import SCREEN, label, quoted

WORD = 24
"""Longest word in a cell, in character cells; the page and the picture cut it to their widths."""
MOST_TARGETS = 3
"""Targets that a page colours the grid by."""
ONE_POSITION = " Only one position was probed: with `position` all this is a grid."
NAMES: dict[Literal["rank", "prob"], str] = {"rank": "rank", "prob": "probability"}
"""What of a target a grid is coloured by."""
TOP = "probability of the top token"


def logit_lens(
    probe: Probe, target: str | None = None, most: int | None = None, by: Literal["rank", "prob"] = "rank"
) -> list[Heat]:
    """Map the most probable token after each layer at every probed position of the prompt.

    Args:
        probe: The last position to show.
        target: Colour by the rank or probability of this followed token; by the top token's if None.
        most: Largest number of positions, the last ones up to the probe's; all of the prompt if None.
        by: What of the target.
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
        followed = probe.of_prompt("lens", ("position", "layer", "target", by))
        own = zip(*followed.values(), strict=True)
        values = {(layer, position): value for position, layer, name, value in own if name == target}
    coloured = TOP if target is None else f"{NAMES[by]} of {quoted(target)}"
    note = "Top row: the model's output. Each cell has the token that its layer would write next."
    note += f" {RAW_NOTE}" if probe.lens == "raw" else ""
    return [
        Heat(
            name="logit_lens",
            title=f"Logit lens ({probe.lens}): the top token after each layer"
            + ("" if target is None else f", coloured by the {coloured}"),
            note=note + (ONE_POSITION if len(positions) == 1 else ""),
            row_title="layer",
            column_title="position",
            rows=["embedding" if layer < 0 else str(layer) for layer in layers],
            columns=[f"{one}: {label(probe.shown[one].strip(' ') or probe.shown[one])}" for one in shown],
            values=[[values.get((layer, one)) for one in shown] for layer in layers],
            words=[[words[layer, one] for one in shown] for layer in layers],
            unit="prob" if target is None else by,
            value_title=coloured,
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
    return f"Shown: positions {shown[0]} to {shown[-1]}, {len(shown):,} of {len(positions):,} probed."


def logit_lenses(probe: Probe, most: int) -> list[Heat]:
    """Map the top tokens by the rank and the probability of each followed target, and by their own."""
    followed = probe.of_prompt("lens", ("target", "is_foil", "position"))
    counted: dict[str, set[int]] = {}
    for target, foil, position in zip(*followed.values(), strict=True):
        if not foil:
            counted.setdefault(target, set()).add(position)
    positions = max((len(one) for one in counted.values()), default=0)
    asked = [target for target, at in counted.items() if len(at) == positions][:MOST_TARGETS]
    own = [one for target in asked for by in NAMES for one in logit_lens(probe, target, most, by)]
    return [*own, *logit_lens(probe, None, most)]
