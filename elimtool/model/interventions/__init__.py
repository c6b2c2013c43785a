"""Interventions: changes made to a model while it runs, to see what its output owes to a component.

Each is a frozen value with a ``parse`` of what the command line takes, and ``str`` of it reads back with
``parse_intervention``.
"""

from __future__ import annotations

from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.model.interventions.ablate import Ablate, Scale
from elimtool.model.interventions.component import Component
from elimtool.model.interventions.edits import Intervention
from elimtool.model.interventions.knockout import Knockout
from elimtool.model.interventions.patch import Patch

__all__ = [
    "INTERVENTIONS",
    "Ablate",
    "Component",
    "Intervention",
    "Knockout",
    "Patch",
    "Scale",
    "label",
    "parse_intervention",
]

INTERVENTIONS: dict[str, Any] = {"ablate": Ablate, "scale": Scale, "knockout": Knockout, "patch": Patch}


def parse_intervention(text: str) -> Intervention:
    """Read the canonical form of any intervention: ``ablate 17.3 mean``, ``scale mlp.12=0.5``, ...

    Raises:
        ElimError: No such form, or a part of it is not valid.
    """
    word, _, rest = text.strip().partition(" ")
    if word not in INTERVENTIONS or not rest:
        raise ElimError(f"'{text}' is not an intervention", nearest(word, tuple(INTERVENTIONS)))
    found: Intervention = INTERVENTIONS[word].parse(rest)
    return found


def label(interventions: tuple[Intervention, ...]) -> str | None:
    """How the column ``intervention`` names a pass: canonical forms in order; ``None`` for the plain pass."""
    return "; ".join(map(str, interventions)) or None
