"""Options of locating: which sites are patched, how finely, and what is drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from elimtool.errors import ElimError, checked_fields, nearest
from elimtool.model.interventions.edits import Kind

SITES: dict[str, Kind] = {"residual": "residual", "attention": "attention", "mlp": "mlp", "head": "heads"}
"""Names of sites, and what is patched for them."""
DEFAULT_SITES = ("residual",)
UNRELATED = 20
"""Prompts whose states make the null."""
DRAWS = 10
"""Draws of noise."""


@checked_fields
@dataclass(frozen=True, slots=True)
class LocateOptions:
    """Options of ``elimtool locate``.

    Attributes:
        sites: Names of ``SITES``.
        fine: Whether every single cell is patched, and with the whole null. Otherwise stretches of layers and
            tokens come first, where there are many cells, and only those that count are divided; and of the
            null only so much is run as it takes to know which cells count.
        target_space: ``auto`` or ``exact``, see ``elimtool.model.targets.spaced``.
        sinks: Attention-sink rule as for a trace; it only names spans.
        seed: Seed of the noise.
    """

    sites: tuple[str, ...] = DEFAULT_SITES
    fine: bool = False
    target_space: Literal["auto", "exact"] = "auto"
    sinks: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sites:
            raise ElimError("`sites` names no site", nearest("", tuple(SITES)))
        for name in self.sites:
            if name not in SITES:
                raise ElimError(f"`sites` '{name}' is not known", nearest(name, tuple(SITES)))
