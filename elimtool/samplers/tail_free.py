"""Tail-free sampling: keep the tokens before the curve of sorted probabilities goes flat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage, leading


@dataclass(frozen=True)
class TailFree(Stage):
    """Cuts where the normalised, cumulated second difference of the sorted probabilities passes z.

    Formula: ``d2_i = |(p_i - p_(i+1)) - (p_(i+1) - p_(i+2))|`` over its sum; keep until its running sum
    passes z. Threshold: z (share of curvature). Margin (share of curvature): z - running sum at the token.
    Off: z >= 1. Rows of at most two survivors are left alone by ``prefix``.

    Attributes:
        z: Share of the curvature to keep, 0 .. 1.
        rule: ``prefix``: keep the tokens before the first sum above z, the best always (KoboldCpp).
            ``shifted``: the cut is one token later and the last entry of the vocabulary is always removed
            (text-generation-webui).
    """

    kind: ClassVar[str] = "tail_free"
    main: ClassVar[str] = "z"
    unit: ClassVar[str] = "share of curvature"
    margin_unit: ClassVar[str] = "share of curvature"
    off: ClassVar[Mapping[str, Any] | None] = {"z": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "koboldcpp gpttype_adapter.cpp sample_tail_free",
        "text-generation-webui modules/sampler_hijack.py TailFreeLogitsWarper",
    )
    on_device: ClassVar[bool] = True

    z: float = 1.0
    rule: Literal["prefix", "shifted"] = "prefix"

    def __post_init__(self) -> None:
        self.number("z", 0, 1)
        self.one_of("rule", ("prefix", "shifted"))

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut the sorted tokens by cumulated curvature."""
        c = c.sorted()
        shifted = self.rule == "shifted"
        # tokens removed before have probability 0 and follow the survivors: two of them end the differences
        entries = (c.n + 2).clamp(max=c.vocab) if shifted else c.n
        probs = torch.nn.functional.pad(c.probs, (0, max(3 - c.width, 2)))
        bend = probs.diff(dim=-1).diff(dim=-1).abs()[:, : c.width]
        inside = torch.arange(bend.shape[1], device=bend.device) < (entries - 2)[:, None]
        bend = torch.where(inside, bend, 0.0)
        whole = bend.sum(-1, keepdim=True)
        share = bend / whole
        if not shifted:
            even = inside / (c.n - 2).clamp(min=1)[:, None].to(bend.dtype)
            share = torch.where(whole > 1e-6, share, even)  # as KoboldCpp, where there is no curvature
        held = c.running(share)
        if shifted:
            held = torch.cat([torch.zeros_like(held[:, :1]), held[:, :-1]], -1)
        slack = self.z - held
        keep = (~(slack < 0)) | leading(c, 1)
        small = (c.n <= 2)[:, None]
        keep = keep & leading(c, max(c.vocab - 1, 1)) if shifted else keep | small
        margin = c.at(slack, float("nan"))
        return Effect(c, keep=keep, threshold=torch.full_like(c.top[:, 0], self.z), margin=margin)

    def why(self, fate: Fate, /) -> str:
        """Explain: the token is in the flat tail."""
        return f"in the flat tail: rank {fate.rank:,}, past {self.z:g} of the curvature"
