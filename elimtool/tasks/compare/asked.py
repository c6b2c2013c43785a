"""What a user asks of a comparison of prompts beside the two traces: controls, injection, continuation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from elimtool.errors import ElimError
from elimtool.prompts.prompt import Prompt

CONTROLS_PER_PAIR = 20
"""Controls made for each pair: the least with which each one can be held against enough others."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What an edit is held against, and what else is measured beside the two traces.

    Attributes:
        count: Neutral and random edits made for each pair; 0 for none.
        paraphrases: The user's own controls of the one pair: other wordings of its first prompt.
        injection: Name all that the second prompt adds ``injected``.
        continuation: Tokens that both sides write on greedily; 0 for none.
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
        """As JSON's own types."""
        texts = [one if isinstance(one, str) else asdict(one) for one in self.paraphrases]
        return {
            "controls": self.count,
            "paraphrases": texts,
            "injection": self.injection,
            "continuation": self.continuation,
        }
