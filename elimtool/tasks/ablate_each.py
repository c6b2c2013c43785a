"""Ablate every head and MLP by itself, and keep what that changes for each target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from elimtool.analysis.evidence import NULL_COMPONENTS, null_quantile
from elimtool.engine.defects import Failed, costs_only
from elimtool.engine.reference import ensure_reference
from elimtool.engine.scoring import log_probabilities
from elimtool.files.rows import Row, Rows
from elimtool.model.interventions import Ablate, Component
from elimtool.model.interventions.install import Plan
from elimtool.model.lock import exclusive
from elimtool.model.view import Encoded
from elimtool.tasks.confirm import controls_of

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.run import Run


@exclusive
def ablate_each(
    model: Model,
    run: Run,
    encoded: Sequence[Encoded],
    seed: int,
    failed: Failed | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rows:
    """Fill the table ``ablations``: one pass for each head and MLP, mean-ablated.

    The null of each is what the others are: random components of its kind from the nearest layers, of which
    each was ablated anyway.

    Args:
        model: The model, without interventions.
        run: A run with ``survival``, whose targets are scored.
        encoded: The prompts of the run that could be used.
        seed: Seed for drawing the controls.
        failed: Called for a prompt that fails, which gets no rows; without, the error is raised.
        progress: Called with (ablations done, ablations in all).
    """
    survival: Rows = run.under(None).arrow("survival").to_pylist()
    parts = [
        Component(layer, head) for layer in range(model.n_layers) for head in (*range(model.n_heads), None)
    ]
    plans: list[Plan] = [(), *((Ablate(str(part)),) for part in parts)]
    reference = ensure_reference(model)
    number = {part: at for at, part in enumerate(parts)}
    controls = [
        [number[other] for other in controls_of(part, model.n_layers, model.n_heads, seed)] for part in parts
    ]
    rows: Rows = []
    for at, one in enumerate(encoded):
        own = [row for row in survival if row["prompt_id"] == one.prompt_id]
        where = [one.positions.index(row["position"]) for row in own]
        with costs_only(one, failed):
            logprobs = log_probabilities(
                model,
                [one] * len(plans),
                plans,
                reference,
                where,
                [row["token_id"] for row in own],
                _of_all(progress, at, len(encoded)),
            )
            changes = (logprobs[1:] - logprobs[0]).T.tolist()
            rows += [
                {key: row[key] for key in ("prompt_id", "position", "target", "target_token")}
                | {
                    "component": _named(part),
                    "kind": part.kind,
                    "layer": part.layer,
                    "head": part.head,
                    "effect": effect,
                    **against([effects[other] for other in others], effect),
                }
                for row, effects in zip(own, changes, strict=True)
                for part, effect, others in zip(parts, effects, controls, strict=True)
            ]
    return rows


def against(others: Sequence[float], effect: float) -> Row:
    """Hold an effect against those of its controls: ``null`` and ``beyond``, both null with too few."""
    null = null_quantile(others) if len(others) == NULL_COMPONENTS else None
    return {"null": null, "beyond": None if null is None else abs(effect) > null}


def _of_all(
    progress: Callable[[int, int], None] | None, before: int, prompts: int
) -> Callable[[int, int], None] | None:
    """Report progress within one of several prompts as that within all."""
    if progress is None:
        return None
    return lambda done, of: progress(before * of + done, prompts * of)


def _named(part: Component) -> str:
    """Spell a component as the table ``components`` does."""
    return f"mlp {part.layer}" if part.head is None else f"head {part}"
