"""Temperature: divide logits by T."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.greedy import select_best
from elimtool.samplers.stage import BIAS, Context, Effect, Fate, Role, Stage


@dataclass(frozen=True)
class Temperature(Stage):
    """Divides every logit by T, which sharpens (T < 1) or flattens (T > 1) the distribution.

    Formula: ``l' = l / T``. Off: T = 1. Removes nothing, except where the engine turns a low T into greedy
    choice: then only the largest logit survives (the lowest id among ties) and the margin (nats) is ``l -
    best other l``.

    Attributes:
        temperature: T.
        zero: ``greedy``: T at or under ``greedy_below`` means greedy; ``error``: T must be positive.
        greedy_below: T up to here is greedy (llama.cpp 0, vLLM 1e-5, SGLang 1e-6; theirs exclude the value
            itself).
        floor: A positive T under this is raised to it, before it can be greedy (vLLM 0.01); 0 = none.
        negative: Whether T < 0 is accepted (llama.cpp: greedy).
        shrinks: Greedy choice leaves an array of one (llama.cpp keeps the length and sets the rest to -inf).
    """

    kind: ClassVar[str] = "temperature"
    role: ClassVar[Role] = "rescale"
    main: ClassVar[str] = "temperature"
    unit: ClassVar[str] = "temperature"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"temperature": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Ackley, Hinton & Sejnowski 1985",
        "llama.cpp src/llama-sampler.cpp llama_sampler_temp_impl",
        "transformers generation/logits_process.py TemperatureLogitsWarper",
        "vLLM vllm/sampling_params.py",
    )
    on_device: ClassVar[bool] = True
    bound_of: ClassVar[str] = BIAS

    temperature: float = 1.0
    zero: Literal["greedy", "error"] = "greedy"
    greedy_below: float = 0.0
    floor: float = 0.0
    negative: bool = False
    shrinks: bool = True

    def __post_init__(self) -> None:
        self.one_of("zero", ("greedy", "error"))
        self.number("greedy_below", 0, float("inf"))
        self.number("floor", 0, float("inf"))
        self.boolean("negative")
        self.boolean("shrinks")
        low, ends = (0.0, "(]") if self.zero == "error" else (float("-inf") if self.negative else 0.0, "[]")
        self.number("temperature", low, float("inf"), ends)

    @property
    def effective(self) -> float | None:
        """T that divides the logits, ``None`` for greedy choice."""
        # raised first: what vLLM's floor lifts is never greedy
        raised = max(self.temperature, self.floor) if self.temperature > 0 else self.temperature
        return None if raised <= 0 or raised < self.greedy_below else raised

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Rescale, or keep the best."""
        if self.effective is None:
            return select_best(c, c.n.clamp(max=1) if self.shrinks else c.size)
        threshold = torch.full_like(c.top[:, 0], self.effective)
        return Effect(c, scores=c.scores / self.effective, keeps_order=True, threshold=threshold)

    def why(self, fate: Fate, /) -> str:
        """Explain: the choice is greedy."""
        return f"not the best token: temperature {self.temperature:g} is greedy (rank {fate.rank:,})"
