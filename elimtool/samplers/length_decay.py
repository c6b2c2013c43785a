"""Exponential length penalty: push the end of the text from a step on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role, Stage


@dataclass(frozen=True)
class LengthDecay(Stage):
    """Raises end-of-text tokens exponentially from a number of generated tokens on.

    Formula: with k = generated tokens - ``after`` > 0, ``l + |l| (factor^k - 1)``. A logit of 0 stays, and a
    banned token stays banned. Unit: logit. Removes nothing. Off: factor = 1.

    Attributes:
        factor: Growth for each token past ``after``; under 1 it lowers the end.
        after: Generated tokens after which it begins.
        eos: The tokens that end a text; ``null`` = the model's own, once the chain is given them.
    """

    kind: ClassVar[str] = "length_decay"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "factor"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"factor": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "transformers generation/logits_process.py ExponentialDecayLengthPenalty",
    )

    factor: float = 1.0
    after: int = 0
    eos: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self.number("factor", 0, float("inf"))
        self.integer("after", 0)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Raise the end."""
        past = torch.tensor([len(history.generated) - self.after for history in context.histories])
        grown = self.factor ** past.clamp(min=0).to(c.scores) - 1
        ends = torch.isin(c.ids, torch.tensor(self.eos or (), dtype=torch.int64)) & c.alive
        lift = (c.scores.abs() * grown[:, None]).masked_fill(~ends, 0.0)
        return Effect(c, scores=c.scores + lift, active=past > 0)
