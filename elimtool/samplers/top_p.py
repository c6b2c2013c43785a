"""Top-p (nucleus): keep the most probable tokens that hold mass p."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage, leading, level


@dataclass(frozen=True)
class TopP(Stage):
    """Keeps the smallest set of most probable tokens that holds mass p, the crossing token included.

    Formula: with B the mass of the tokens before one in falling order, keep ``B < p``. Threshold: p. Margin
    (probability): ``p - B``. Off: p >= 1.

    Attributes:
        p: Mass to hold, 0 .. 1.
        boundary: How rounding meets the edge. ``reach``: stop at the first cumulative sum >= p (llama.cpp).
            ``ascending``: sum from the small end and remove while the sum is <= 1 - p (Hugging Face, vLLM).
            ``before``: remove where the mass before a token is > p, so an exact hit keeps one more (SGLang).
        ties: Which of equally probable tokens at the edge survive: ``all``, those with the ``low`` ids, or
            those that ``torch`` puts last in an ascending sort of the vocabulary (Hugging Face, vLLM), which
            on a GPU may be others than on the processor; the last two keep equally many.
        mass_of: The mass is measured on the ``survivors`` or on the ``full`` distribution before any removal
            (SGLang).
        min_keep: Least number of tokens that survive; one always does.
        flat: A row whose logits are all equal is ``cut`` like any other, or ``kept`` whole (vLLM's Triton
            kernel).
    """

    kind: ClassVar[str] = "top_p"
    main: ClassVar[str] = "p"
    unit: ClassVar[str] = "cumulative probability"
    margin_unit: ClassVar[str] = "probability"
    off: ClassVar[Mapping[str, Any] | None] = {"p": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Holtzman et al. 2019, arXiv 1904.09751",
        "transformers generation/logits_process.py TopPLogitsWarper",
        "llama.cpp src/llama-sampler.cpp llama_sampler_top_p",
        "vLLM vllm/v1/sample/ops/topk_topp_sampler.py",
        "SGLang srt/layers/sampler.py",
    )
    on_device: ClassVar[bool] = True

    p: float = 1.0
    boundary: Literal["reach", "ascending", "before"] = "reach"
    ties: Literal["all", "low", "torch"] = "all"
    mass_of: Literal["survivors", "full"] = "survivors"
    min_keep: int = 0
    flat: Literal["cut", "kept"] = "cut"

    def __post_init__(self) -> None:
        self.number("p", 0, 1)
        self.integer("min_keep", 0)
        self.one_of("boundary", ("reach", "ascending", "before"))
        self.one_of("ties", ("all", "low", "torch"))
        self.one_of("mass_of", ("survivors", "full"))
        self.one_of("flat", ("cut", "kept"))

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut the sorted tokens where the mass is held."""
        c = c.sorted(anew=False)
        probs = c.probs if self.mass_of == "survivors" else c.full_probs
        keep, slack = self._edge(c, probs)
        keep = keep | leading(c, max(1, self.min_keep))
        if self.ties == "all":
            last = torch.where(keep & c.alive, c.scores, torch.inf).amin(-1, keepdim=True)
            keep = c.scores >= last
            first = (c.ranks - 1).clamp(min=0)
            margin = slack.gather(1, first)
        else:
            margin = c.at(slack, float("nan"))
            keep = self._as_torch_sorts(c, keep) if self.ties == "torch" else keep
        keep = keep | level(c) if self.flat == "kept" else keep
        return Effect(c, keep=keep, threshold=torch.full_like(c.top[:, 0], self.p), margin=margin)

    def _edge(
        self, c: Candidates, probs: Float[Tensor, "rows width"]
    ) -> tuple[Bool[Tensor, "rows width"], Float[Tensor, "rows width"]]:
        """Mark the sorted columns that hold the mass, and return by how much each does."""
        if self.boundary == "ascending":
            tail = c.running(probs.flip(-1)).flip(-1)
            return tail > 1 - self.p, tail - (1 - self.p)
        total = c.running(probs)
        # the sum minus the token itself, as SGLang: it rounds differently from the sum of those before
        if self.boundary == "before":
            before = total - probs
            return before <= self.p, self.p - before
        before = torch.cat([torch.zeros_like(total[:, :1]), total[:, :-1]], -1)
        return before < self.p, self.p - before

    @staticmethod
    def _as_torch_sorts(c: Candidates, keep: Bool[Tensor, "rows width"]) -> Bool[Tensor, "rows width"]:
        """Choose among tokens tied at the edge as an ascending, unstable sort of the vocabulary does."""
        split = keep[:, :-1] & ~keep[:, 1:] & (c.scores[:, :-1] == c.scores[:, 1:])
        tied = (split & c.alive[:, 1:]).any(-1)
        rows: Tensor | slice = slice(None) if c.masked else tied.nonzero()[:, 0]
        if not c.masked and not tied.any():
            return keep
        order = c.wide()[rows].sort(dim=-1).indices.flip(-1)
        place = torch.arange(c.vocab, device=keep.device)
        wide = torch.zeros_like(order, dtype=torch.bool).scatter_(
            1, order, place < keep[rows].sum(-1)[:, None]
        )
        chosen = keep.clone()
        chosen[rows] = wide.gather(1, c.ids[rows])
        return torch.where(tied[:, None], chosen, keep)

    def why(self, fate: Fate, /) -> str:
        """Explain: more probable tokens hold the mass already."""
        return (
            f"the {fate.n_after:,} more probable tokens already hold {self.p:g} of the mass"
            f" (rank {fate.rank:,})"
        )
