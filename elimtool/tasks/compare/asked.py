"""Options of a comparison: controls, injection and continuation; trace options that it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError, checked_fields
from elimtool.prompts.position import check_position
from elimtool.prompts.prompt import Prompt

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions

CONTROLS_PER_PAIR = 20
"""Controls made for each pair: the fewest with which each can be compared with enough others."""


@checked_fields
@dataclass(frozen=True, slots=True)
class Controls:
    """Controls of an edit, and what else to measure besides the two traces.

    Attributes:
        count: Neutral and random edits made for each pair; 0 for none.
        paraphrases: The user's own controls of a single pair: other wordings of its first prompt.
        injection: Whether to name all that the second prompt adds as the span ``injected``.
        continuation: Tokens that both sides generate greedily; 0 for none.
    """

    count: int = CONTROLS_PER_PAIR
    paraphrases: tuple[str | Prompt, ...] = ()
    injection: bool = False
    continuation: int = 0

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("continuation", self.continuation)):
            if value < 0:
                raise ElimError(f"`{name}` must be 0 or more, got {value}")

    def plain(self) -> dict[str, Any]:
        """As JSON types, by the names of the comparison's options."""
        texts = [one if isinstance(one, str) else one.said() for one in self.paraphrases]
        return {
            "controls": self.count,
            "paraphrases": texts,
            "injection": self.injection,
            "continuation": self.continuation,
        }


def check_traced(options: TraceOptions, two: str) -> None:
    """Refuse trace options that have no meaning between two models or two prompts.

    Args:
        options: What to trace.
        two: ``models`` or ``prompts``.

    Raises:
        ElimError: One of them is set.
    """
    check_position(options.position, several=False)
    refused = {
        "interventions": options.interventions,
        "`confirm`": options.confirm,
        "`generate`": options.generate,
    }
    for name, given in refused.items():
        if given:
            raise ElimError(
                f"{name} cannot be combined with two {two}",
                f"trace each {two[:-1]} with it into a directory, and compare the two runs",
            )
