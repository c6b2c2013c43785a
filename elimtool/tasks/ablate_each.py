"""Ablate every head and MLP by itself, and keep what that changes for each target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from elimtool.engine.reference import ensure_reference
from elimtool.engine.scoring import log_probabilities
from elimtool.files.rows import Rows
from elimtool.model.interventions import Ablate, Component
from elimtool.model.interventions.install import Plan
from elimtool.model.lock import exclusive
from elimtool.model.view import Encoded

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.run import Run


@exclusive
def ablate_each(
    model: Model,
    run: Run,
    encoded: Sequence[Encoded],
    failed: Callable[[Encoded, Exception], None] | None = None,
) -> Rows:
    """Fill the table ``ablations``: one pass for each head and MLP, mean-ablated.

    Args:
        model: The model, without interventions.
        run: A run with ``survival``, whose targets are scored.
        encoded: The prompts of the run that could be used.
        failed: Called for a prompt that fails, which gets no rows; without, the error is raised.
    """
    survival: Rows = run.under(None).arrow("survival").to_pylist()
    parts = [
        Component(layer, head) for layer in range(model.n_layers) for head in (*range(model.n_heads), None)
    ]
    plans: list[Plan] = [(), *((Ablate(str(part)),) for part in parts)]
    reference = ensure_reference(model)
    rows: Rows = []
    for one in encoded:
        own = [row for row in survival if row["prompt_id"] == one.prompt_id]
        where = [one.positions.index(row["position"]) for row in own]
        try:
            logprobs = log_probabilities(
                model, [one] * len(plans), plans, reference, where, [row["token_id"] for row in own]
            )
        except Exception as error:  # one prompt of a batch must not fail the others
            if failed is None:
                raise
            failed(one, error)
            continue
        changes = (logprobs[1:] - logprobs[0]).T.tolist()
        rows += [
            {key: row[key] for key in ("prompt_id", "position", "target", "target_token")}
            | {
                "component": _named(part),
                "kind": part.kind,
                "layer": part.layer,
                "head": part.head,
                "effect": effect,
            }
            for row, effects in zip(own, changes, strict=True)
            for part, effect in zip(parts, effects, strict=True)
        ]
    return rows


def _named(part: Component) -> str:
    """Spell a component as the table ``components`` does."""
    return f"mlp {part.layer}" if part.head is None else f"head {part}"
