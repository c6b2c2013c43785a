"""Top-n-sigma: keep the logits within n standard deviations of the largest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.order import alive_parts
from elimtool.samplers.stage import Context, Effect, Fate, Stage


def deviation(c: Candidates, rule: Literal["population", "zero_filled"]) -> Float[Tensor, "rows 1"]:
    """Return the standard deviation of the survivors' logits; ``zero_filled`` is that of TopNSigma."""
    if c.masked:
        return _deviation(c, rule)
    found = []
    for (scores,) in alive_parts(c.alive, c.scores):
        count = len(scores) if rule == "population" else c.vocab
        mean = scores.sum() / count
        away = scores - mean
        squares = np.square(away).sum()
        if rule == "zero_filled":
            squares += (count - len(scores)) * mean**2
            count = max(count - 1, 1)
        found.append(sqrt(squares / count))
    return c.scores.new_tensor(found)[:, None]


def _deviation(c: Candidates, rule: Literal["population", "zero_filled"]) -> Float[Tensor, "rows 1"]:
    """Compute it by masked sums, without looking at a number."""
    n = c.n[:, None]
    count = n if rule == "population" else torch.full_like(n, c.vocab)
    mean = c.scores.masked_fill(~c.alive, 0.0).sum(-1, keepdim=True) / count
    squares = (c.scores - mean).square_().masked_fill_(~c.alive, 0.0).sum(-1, keepdim=True)
    if rule == "zero_filled":
        squares, count = squares + (count - n) * mean.square(), (count - 1).clamp(min=1)
    return (squares / count).sqrt()


@dataclass(frozen=True)
class TopNSigma(Stage):
    """Keeps logits within n standard deviations of the largest; temperature cannot change the set.

    Formula: keep ``l >= l_max - n * sigma``. Threshold: that logit. Margin (sigma): ``n - (l_max - l) /
    sigma``.
    Off: n <= 0.

    Attributes:
        n: Standard deviations.
        sigma: ``population``: over the survivors (llama.cpp, KoboldCpp); ``zero_filled``: n - 1 in the
            denominator, removed tokens counted as logit 0 (text-generation-webui).
        shrinks: Removed tokens leave the engine's array (llama.cpp leaves them in as -inf).
    """

    kind: ClassVar[str] = "top_n_sigma"
    main: ClassVar[str] = "n"
    unit: ClassVar[str] = "logit"
    margin_unit: ClassVar[str] = "sigma"
    off: ClassVar[Mapping[str, Any] | None] = {"n": -1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Tang et al. 2024, arXiv 2411.07641",
        "llama.cpp src/llama-sampler.cpp llama_sampler_top_n_sigma",
        "koboldcpp gpttype_adapter.cpp sample_top_n_sigma",
    )
    on_device: ClassVar[bool] = True

    n: float = -1.0
    sigma: Literal["population", "zero_filled"] = "population"
    shrinks: bool = True

    def __post_init__(self) -> None:
        self.number("n", -1, float("inf"))
        self.one_of("sigma", ("population", "zero_filled"))
        self.boolean("shrinks")

    def is_off(self) -> bool:
        """Return whether n <= 0."""
        return self.n <= 0

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut at a distance from the largest logit."""
        sigma = deviation(c, self.sigma)
        edge = c.top - self.n * sigma
        away = (c.top - c.target_scores) / sigma
        margin = self.n - torch.where(c.top == c.target_scores, torch.zeros_like(away), away)
        size = None if self.shrinks else c.size
        return Effect(c, keep=c.scores >= edge, threshold=edge[:, 0], margin=margin, size=size)

    def why(self, fate: Fate, /) -> str:
        """Explain: the logit is too far under the largest."""
        return f"logit {fate.logit:.4g} is more than {self.n:g} standard deviations under the largest"
