"""Locally typical sampling: keep the tokens whose surprise is nearest to the entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.order import rising
from elimtool.samplers.stage import Context, Effect, Fate, Stage, leading


@dataclass(frozen=True)
class Typical(Stage):
    """Keeps the tokens of most typical surprise that hold a given mass; very probable tokens can be removed.

    Formula: ``shift_i = |-ln p_i - H|``; by rising shift, keep until the cumulative probability holds the
    mass.
    Threshold: the largest shift kept (nats). Margin (probability): mass - (probability of all more typical
    tokens).
    Off: mass >= 1.

    Attributes:
        mass: Probability to hold, 0 .. 1 (0 excluded).
        boundary: Stop at the first cumulative sum that ``reach``es the mass (Hugging Face) or ``exceed``s it
            (llama.cpp, KoboldCpp).
        ties: ``all``: every token as typical as the last one survives (Hugging Face); ``exact``: only those
            before it by falling score and rising id.
        nan: ``guard``: a probability of 0 adds nothing to the entropy. ``undefined``: it makes every shift
            NaN (llama.cpp), its sort arbitrary; all survivors are kept then, as was observed, and a note says
            so.
        min_keep: Least number of tokens that survive, the most typical ones.
    """

    kind: ClassVar[str] = "typical"
    main: ClassVar[str] = "mass"
    unit: ClassVar[str] = "nats"
    margin_unit: ClassVar[str] = "probability"
    off: ClassVar[Mapping[str, Any] | None] = {"mass": 1.0}
    sources: ClassVar[tuple[str, ...]] = (
        "Meister et al. 2022, arXiv 2202.00666",
        "transformers generation/logits_process.py TypicalLogitsWarper",
        "llama.cpp src/llama-sampler.cpp llama_sampler_typical",
    )

    mass: float = 1.0
    boundary: Literal["reach", "exceed"] = "reach"
    ties: Literal["all", "exact"] = "all"
    nan: Literal["guard", "undefined"] = "guard"
    min_keep: int = 0

    def __post_init__(self) -> None:
        self.number("mass", 0, 1, "(]")
        self.one_of("boundary", ("reach", "exceed"))
        self.one_of("ties", ("all", "exact"))
        self.one_of("nan", ("guard", "undefined"))
        self.integer("min_keep", 0)

    def shifts(self, c: Candidates) -> Float[Tensor, "rows width"]:
        """Return the distance of each token's surprise from the entropy, +inf for removed tokens."""
        logs = torch.log_softmax(c.scores, -1)
        entropy = -(logs * c.probs).nansum(-1, keepdim=True)
        shifts = logs.neg_().sub_(entropy).abs_()  # in place, as logs is not used again
        return shifts if c.whole else shifts.masked_fill_(~c.alive, torch.inf)

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        """Cut by rising shift."""
        if self.ties == "exact":
            c = c.sorted()
        shift = self.shifts(c)
        place = rising(shift)
        ordered = shift.gather(1, place)
        total = c.running(c.probs.gather(1, place))
        short = total < self.mass if self.boundary == "reach" else total <= self.mass
        last = torch.minimum(short.sum(-1, keepdim=True), c.n[:, None] - 1)
        edge = ordered.gather(1, last)
        if self.ties == "all":
            keep = shift <= edge
            always = leading(c, self.min_keep)
        else:
            keep = torch.zeros_like(c.alive)
            always = leading(c, max(self.min_keep, 1)) | (torch.arange(c.width, device=last.device) <= last)
        keep = keep | torch.zeros_like(keep).scatter_(1, place, always)
        before = torch.cat([torch.zeros_like(total[:, :1]), total], -1)
        mine = torch.searchsorted(ordered, c.at(shift, float("inf")))
        margin = self.mass - before.gather(1, mine)
        effect = Effect(c, keep=keep, threshold=edge[:, 0], margin=margin)
        return self._undefined(effect) if self.nan == "undefined" else effect

    def _undefined(self, effect: Effect) -> Effect:
        """Keep all survivors of rows in which the engine sorts NaN."""
        c = effect.base
        broken = (c.size > c.n) | ((c.probs == 0) & c.alive).any(-1)
        if effect.keep is None or effect.margin is None or not bool(broken.any()):
            return effect
        rows = ", ".join(str(r) for r in broken.nonzero()[:4, 0].tolist())
        note = f"row {rows}: a probability of 0 makes the engine's order undefined; all survivors are kept"
        threshold = None if effect.threshold is None else effect.threshold.masked_fill(broken, float("nan"))
        margin = effect.margin.masked_fill(broken[:, None], float("inf"))
        return Effect(
            c, keep=effect.keep | broken[:, None], threshold=threshold, margin=margin, notes=(note,)
        )

    def why(self, fate: Fate, /) -> str:
        """Explain: the surprise is too far from the entropy."""
        side = "likely" if fate.rank == 1 else "unlikely or too likely"
        return (
            f"too {side} to be typical: its surprise is further from the entropy than "
            f"{fate.threshold:.3g} nats (mass {self.mass:g} is held by more typical tokens)"
        )
