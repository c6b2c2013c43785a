"""Interventions: changes made to a model while it runs, to see what its output owes to a component.

Each is a frozen value with a ``parse`` of what the command line takes; ``str`` of it is the word for what is
done and a text that ``parse`` reads back.
"""

from __future__ import annotations

from elimtool.model.interventions.ablate import Ablate, Scale
from elimtool.model.interventions.component import Component
from elimtool.model.interventions.edits import Intervention
from elimtool.model.interventions.knockout import Knockout
from elimtool.model.interventions.patch import Patch

__all__ = [
    "Ablate",
    "Component",
    "Intervention",
    "Knockout",
    "Patch",
    "Scale",
    "label",
]


def label(interventions: tuple[Intervention, ...]) -> str | None:
    """How the column ``intervention`` names a pass: canonical forms in order; ``None`` for the plain pass."""
    return "; ".join(map(str, interventions)) or None
