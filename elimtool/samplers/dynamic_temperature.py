"""Dynamic temperature: divide logits by a temperature that follows their entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.greedy import select_best
from elimtool.samplers.stage import BIAS, Context, Effect, Fate, Role, Stage


@dataclass(frozen=True)
class DynamicTemperature(Stage):
    """Divides the logits by a temperature between T - delta and T + delta that grows with the entropy.

    Formula: ``T' = lo + (hi - lo) (H / Hmax)^exponent``, ``lo = max(0, T - delta)``, ``hi = T + delta``, H
    the entropy of what is left (nats), Hmax the log of the number of candidates. Unit: temperature. delta = 0
    is plain temperature. Off: delta = 0 and T = 1. A row of one candidate is left alone.

    Attributes:
        temperature: T; at most 0 with delta = 0 is greedy.
        delta: Half the width of the range.
        exponent: Curvature, >= 0.
        entropy_max: Hmax counts the engine's ``array`` (llama.cpp: ``-inf`` entries too) or the
            ``survivors``.
        negative: Whether T < 0 is accepted (llama.cpp: greedy).
        shrinks: Greedy choice leaves an array of one.
    """

    kind: ClassVar[str] = "dynamic_temperature"
    role: ClassVar[Role] = "rescale"
    main: ClassVar[str] = "temperature"
    unit: ClassVar[str] = "temperature"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"delta": 0.0, "temperature": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "llama.cpp src/llama-sampler.cpp llama_sampler_temp_ext",
        "koboldcpp gpttype_adapter.cpp sample_entropy",
        "text-generation-webui modules/sampler_hijack.py DynamicTemperatureLogitsWarper",
    )
    on_device: ClassVar[bool] = True
    bound_of: ClassVar[str] = BIAS

    temperature: float = 1.0
    delta: float = 0.0
    exponent: float = 1.0
    entropy_max: Literal["array", "survivors"] = "survivors"
    negative: bool = False
    shrinks: bool = True

    def __post_init__(self) -> None:
        self.number("temperature", float("-inf") if self.negative else 0, float("inf"))
        self.number("delta", 0, float("inf"))
        self.number("exponent", 0, float("inf"))
        self.one_of("entropy_max", ("array", "survivors"))
        self.boolean("negative")
        self.boolean("shrinks")

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Rescale each row by its own temperature."""
        if self.delta == 0 and self.temperature <= 0:
            return select_best(c, None if self.shrinks else c.size)
        count = c.size if self.entropy_max == "array" else c.n
        if self.delta == 0:
            used = torch.full_like(c.top[:, 0], self.temperature)
        else:
            low, high = max(0.0, self.temperature - self.delta), max(0.0, self.temperature + self.delta)
            # the clamp keeps 0 / 0 away from rows of one candidate, which are left alone below
            share = c.entropy.to(c.scores.dtype) / count.to(c.scores.dtype).log().clamp(min=1e-300)
            used = low + (high - low) * share**self.exponent
            used = torch.where(count > 1, used, torch.ones_like(used))
        # T' = 0 is the limit: only the best and what is tied with it keep any probability
        limit = torch.where(c.scores == c.top, c.scores, -torch.inf)
        scores = torch.where(used[:, None] > 0, c.scores / used[:, None], limit)
        return Effect(c, scores=scores, keeps_order=True, threshold=used)

    def why(self, fate: Fate, /) -> str:
        """Explain: the choice is greedy."""
        return f"not the best token: temperature {self.temperature:g} is greedy (rank {fate.rank:,})"
