"""Define where a prompt stands among others: its template, its tuple, and all its right answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elimtool.errors import ElimError, nearest

ABSTAIN = "abstain"
"""Role of a prompt that asks for phrases that say that it is not known."""
ROLES = ("neutral", "good", "bad", ABSTAIN)
"""What a record is beside others of its tuple: without the group's word, or a side of a minimal pair."""


@dataclass(frozen=True, slots=True)
class Design:
    """Where a prompt stands among others.

    Attributes:
        template: Name of the wording it was made from: the unit that statistics resample.
        tuple_id: Name shared by prompts that differ in the group alone.
        filler: Words that take the group's place in the tuple, one for each group, joined by ``|``.
        slots: Values of the further slots by name.
        answers: Right answers, each with its aliases.
        role: One of ``ROLES``.
        seed: Added to the run's seed where the model writes; ``None`` for a prompt that is asked once.
    """

    template: str | None = None
    tuple_id: str | None = None
    filler: str | None = None
    slots: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[tuple[str, ...], ...] = ()
    role: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.role is not None and self.role not in ROLES:
            raise ElimError(
                f"'role' must be one of {', '.join(ROLES)}, got '{self.role}'", nearest(self.role, ROLES)
            )


ALONE = Design()
"""A prompt that stands for itself."""
