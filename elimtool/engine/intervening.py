"""Put interventions on a model, and describe them for ``run.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from elimtool.engine.reference import ensure_reference
from elimtool.model.interventions import Intervention, Patch
from elimtool.model.view import Encoded

if TYPE_CHECKING:
    from elimtool.model.model import Model


def changed(model: Model, interventions: Sequence[Intervention]) -> Model | None:
    """The model under interventions, with the reference activations that they need; ``None`` without any.

    Raises:
        ElimError: The model lacks what one of them names.
    """
    if not interventions:
        return None
    needed = any(intervention.needs_reference for intervention in interventions)
    return model.intervened(interventions, ensure_reference(model) if needed else None)


def described(
    interventions: Sequence[Intervention], under: Model | None, encoded: Sequence[Encoded]
) -> dict[str, Any]:
    """Interventions for ``run.json``: canonical forms, the data that they put in, and what to know of them.

    Args:
        interventions: In order.
        under: The model under them.
        encoded: The prompts.
    """
    facts: dict[str, Any] = {"interventions": [str(each) for each in interventions]}
    if under is None:
        return facts
    notes = [(one.prompt_id, each.note(one)) for each in interventions for one in encoded]
    return {
        **facts,
        "intervention_notes": [f"{prompt_id}: {note}" for prompt_id, note in notes if note],
        "patched": {each.file: each.sha256() for each in interventions if isinstance(each, Patch)},
        "reference": None if under.reference is None else dict(under.reference.facts),
    }
