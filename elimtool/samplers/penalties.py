"""Repetition, presence and frequency penalties: lower the logits of tokens that were seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.history import WINDOWS, Part, Scope, Window, occurrences, window_length
from elimtool.samplers.stage import Context, Effect, Role, Stage


@dataclass(frozen=True)
class Penalties(Stage):
    """Lowers the logits of tokens that the history holds.

    Formula: repetition r, once per distinct token: ``l / r`` for l > 0, else ``l * r``; frequency f and
    presence p: ``l - count * f - (count > 0) * p``. Unit: logit. Removes nothing. Off: r = 1, f = 0, p = 0
    (or an empty window).

    Attributes:
        repetition: r, > 0.
        frequency: f.
        presence: p.
        last_n: Window in tokens, newest first; ``None`` = whole history, 0 = off.
        negative_last_n: What a negative window means: ``off`` (llama.cpp), ``all``, or ``all_at_zero``, which
            0 means too (text-generation-webui).
        repetition_scope: History for r: ``all`` (prompt and output), ``generated`` (SGLang) or ``prompt``.
        additive_scope: History for f and p: ``all`` (llama.cpp) or ``generated`` (vLLM, SGLang).
        order: ``multiply_first`` or ``add_first`` (SGLang).
        slope: Share of r's excess over 1 that acts on tokens found in the older half of the window only
            (KoboldCpp).
    """

    kind: ClassVar[str] = "penalties"
    role: ClassVar[Role] = "shift"
    main: ClassVar[str] = "repetition"
    unit: ClassVar[str] = "logit"
    off: ClassVar[Mapping[str, Any] | None] = {"repetition": 1.0, "frequency": 0.0, "presence": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Keskar et al. 2019, arXiv 1909.05858 (repetition)",
        "llama.cpp src/llama-sampler.cpp llama_sampler_penalties",
        "transformers generation/logits_process.py RepetitionPenaltyLogitsProcessor",
        "vLLM vllm/v1/sample/ops/penalties.py",
        "SGLang srt/sampling/penaltylib",
        "koboldcpp gpttype_adapter.cpp sample_rep_pen",
    )
    on_device: ClassVar[bool] = True

    repetition: float = 1.0
    frequency: float = 0.0
    presence: float = 0.0
    last_n: int | None = None
    negative_last_n: Window = "all"
    repetition_scope: Part = "all"
    additive_scope: Scope = "generated"
    order: Literal["multiply_first", "add_first"] = "multiply_first"
    slope: float = 1.0

    def __post_init__(self) -> None:
        self.number("repetition", 0, float("inf"), "(]")
        self.number("frequency", float("-inf"), float("inf"))
        self.number("presence", float("-inf"), float("inf"))
        self.number("slope", 0, float("inf"))
        if self.last_n is not None:
            self.integer("last_n", -1)
        self.one_of("negative_last_n", WINDOWS)
        self.one_of("repetition_scope", ("all", "generated", "prompt"))
        self.one_of("additive_scope", ("all", "generated"))
        self.one_of("order", ("multiply_first", "add_first"))

    @property
    def window(self) -> int | None:
        """Length of the window; ``None`` for all tokens."""
        return window_length(self.last_n, self.negative_last_n)

    def is_off(self) -> bool:
        """Return whether all values are neutral or there is no window."""
        empty = self.window is not None and self.window <= 0
        return empty or (self.repetition == 1.0 and self.frequency == 0 and self.presence == 0)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Lower the logits of tokens that were seen."""
        scores = c.scores.clone()
        steps = (self._multiply, self._add)
        for act in steps if self.order == "multiply_first" else reversed(steps):
            act(scores, c, context)
        return Effect(c, scores=scores)

    def _multiply(self, scores: Float[Tensor, "rows width"], c: Candidates, context: Context) -> None:
        """Apply the repetition penalty to ``scores`` in place."""
        if self.repetition == 1.0:
            return
        windows = [h.window(self.repetition_scope, self.window) for h in context.histories]
        tokens, _ = occurrences(windows, c.vocab)
        factors = torch.full(tokens.shape, self.repetition, dtype=scores.dtype)
        if self.slope != 1.0 and self.repetition > 1:
            newer = [set(window[len(window) // 2 :]) for window in windows]
            old = [[t not in newer[r] for t in row] for r, row in enumerate(tokens.tolist())]
            weaker = 1 + (self.repetition - 1) * self.slope
            factors[torch.tensor(old, dtype=torch.bool).view_as(tokens)] = weaker

        def divided(given: Tensor, factor: Tensor) -> Tensor:
            # a division would raise a negative logit
            return torch.where(given > 0, given / factor, given * factor)

        c.change(scores, tokens, divided, factors)

    def _add(self, scores: Float[Tensor, "rows width"], c: Candidates, context: Context) -> None:
        """Apply the frequency and presence penalties to ``scores`` in place."""
        if self.frequency == 0 and self.presence == 0:
            return
        windows = [h.window(self.additive_scope, self.window) for h in context.histories]
        tokens, counts = occurrences(windows, c.vocab)
        lowered = counts.to(scores.dtype) * self.frequency + self.presence
        c.change(scores, tokens, torch.sub, lowered)
