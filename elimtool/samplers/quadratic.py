"""Quadratic smoothing: bend the logits under the largest, so that near ones come nearer and far ones go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Role, Stage


@dataclass(frozen=True)
class Quadratic(Stage):
    """Bends logits by their distance from the largest: small gaps shrink, large ones grow.

    Formula: with ``d = l - l_max``, ``l' = l_max - (3 - c)/2 f d^2 + (c - 1)/2 f d^3``. At c = 1 gaps under
    1/f nats shrink and larger ones grow. Unit: logit. Removes nothing. Off: f = 0.

    No engine checks c. Only for c in 1 .. 3 the order of tokens stays: under 1, tokens more than
    ``(3 - c)/(1 - c)`` nats below the best rise above it; over 3, those just below it do.

    Attributes:
        factor: f, the smoothing factor.
        curve: c, the smoothing curve.
    """

    kind: ClassVar[str] = "quadratic"
    role: ClassVar[Role] = "rescale"
    main: ClassVar[str] = "factor"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"factor": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "text-generation-webui modules/sampler_hijack.py QuadraticSamplingLogitsWarper",
        "koboldcpp kcpp_src/gpttype_adapter.cpp sample_temperature",
    )
    on_device: ClassVar[bool] = True

    factor: float = 0.0
    curve: float = 1.0

    def __post_init__(self) -> None:
        self.number("factor", 0, float("inf"))
        self.number("curve", float("-inf"), float("inf"))

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Bend the logits; removed tokens stay removed."""
        away = (c.scores - c.top).masked_fill(~c.alive, 0.0)
        bent = (self.curve - 1) / 2 * away - (3 - self.curve) / 2
        scores = (c.top + self.factor * away.square() * bent).masked_fill(~c.alive, -torch.inf)
        note = f"curve {self.curve:g} is outside 1 .. 3: tokens can change places"
        keeps_order = 1 <= self.curve <= 3
        return Effect(c, scores=scores, keeps_order=keeps_order, notes=() if keeps_order else (note,))
