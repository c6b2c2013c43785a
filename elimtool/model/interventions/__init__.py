"""Change a model while it runs, to see how its output depends on a component.

Each intervention is a frozen value. Its ``parse`` reads what the command line takes, and its ``str`` is the
canonical form, which ``parse`` reads too.
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
    """Make a pass's entry in the column ``intervention``: canonical forms in order, ``None`` for none."""
    return "; ".join(map(str, interventions)) or None
