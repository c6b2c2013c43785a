"""Top-k: keep the k tokens of largest logit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.order import at_least, larger, tally
from elimtool.samplers.stage import BIAS, Context, Effect, Fate, Stage, level


@dataclass(frozen=True)
class TopK(Stage):
    """Keeps the k largest logits.

    Formula: keep ``l >= l_(k)``, the k-th largest. Threshold: that logit. Margin (nats): a survivor's
    distance to the best removed token, a removed token's to the k-th. Off: k <= 0.

    Attributes:
        k: How many to keep.
        ties: ``all``: every token tied with the k-th survives (Hugging Face, vLLM); ``exact``: k survive, the
            lowest ids of a tie first (llama.cpp and SGLang leave the choice to their sort).
        min_keep: k is raised to this (Hugging Face); 0 = no effect.
        flat: A row whose logits are all equal is ``cut`` like any other, or ``kept`` whole (vLLM's Triton
            kernel).
    """

    kind: ClassVar[str] = "top_k"
    main: ClassVar[str] = "k"
    unit: ClassVar[str] = "logit"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"k": 0}
    sources: ClassVar[tuple[str, ...]] = (
        "Fan, Lewis & Dauphin 2018, arXiv 1805.04833",
        "transformers generation/logits_process.py TopKLogitsWarper",
        "llama.cpp src/llama-sampler.cpp llama_sampler_top_k_impl",
        "vLLM vllm/v1/sample/ops/topk_topp_sampler.py",
        "SGLang srt/layers/sampler.py",
    )
    on_device: ClassVar[bool] = True
    bound_of: ClassVar[str] = BIAS

    k: int = 0
    ties: Literal["all", "exact"] = "all"
    min_keep: int = 0
    flat: Literal["cut", "kept"] = "cut"

    def __post_init__(self) -> None:
        self.integer("k", -1)
        self.integer("min_keep", 0)
        self.one_of("ties", ("all", "exact"))
        self.one_of("flat", ("cut", "kept"))

    def is_off(self) -> bool:
        """Return whether k is 0 or -1."""
        return self.k <= 0

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut at the k-th largest score."""
        k = min(max(self.k, self.min_keep), c.vocab)
        if self.ties == "exact" and c.order == "none":
            c = c.sorted()
        last = c.kth(k)
        keep = at_least(c.scores, last)
        if self.ties == "exact" and (c.masked or bool((tally(keep) > k).any())):
            tied = c.scores == last
            room = k - tally(larger(c.scores, last))  # columns are by id or falling: the lowest ids win
            keep = keep & (~tied | (tied.cumsum(-1) <= room[:, None]))
        keep = keep | level(c) if self.flat == "kept" else keep
        kept = c.at(keep, False)
        margin = torch.where(kept, c.target_scores - c.best_outside(keep), c.target_scores - last)
        threshold = last[:, 0].masked_fill(last[:, 0] == NEG_INF, float("nan"))
        exact = self.ties == "exact" and self.flat == "cut"
        size, most = (c.size.clamp(max=k), k) if exact else (None, None)
        return Effect(c, keep=keep, threshold=threshold, margin=margin, size=size, most=most)

    def why(self, fate: Fate, /) -> str:
        """Explain: the rank is beyond k."""
        return f"rank {fate.rank:,} is outside the {fate.n_after:,} most probable tokens (k = {self.k:,})"
