"""Remove invalid values: make -inf finite, which brings banned tokens back as survivors of probability 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.stage import Context, Effect, Role, Stage


@dataclass(frozen=True)
class RemoveInvalid(Stage):
    """Raises every -inf to the least finite float32: all earlier bans become soft.

    Formula: ``max(l, -3.4e38)``. Every token survives again; those banned before cannot be drawn, unless
    nothing else was left: then all are equally probable. ``length_decay`` after it lifts a banned end back
    into play (in float32 to +inf, where transformers fails). NaN and +inf are refused before the chain. Off:
    on = false.

    Attributes:
        on: Whether it acts (Hugging Face's remove_invalid_values).
    """

    kind: ClassVar[str] = "remove_invalid"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "on"
    off: ClassVar[Mapping[str, Any] | None] = {"on": False}
    revives: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py InfNanRemoveLogitsProcessor",
    )
    on_device: ClassVar[bool] = True

    on: bool = False

    def __post_init__(self) -> None:
        self.boolean("on")

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Raise what is -inf."""
        wide = c.wide()
        removed = wide == NEG_INF
        least = torch.finfo(torch.float32).min
        return Effect(c, revived=wide.masked_fill(removed, least), active=removed.any(-1))
