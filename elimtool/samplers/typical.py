"""Locally typical sampling: keep the tokens whose surprise is nearest to the entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isnan
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.order import rising, tally
from elimtool.samplers.stage import Context, Effect, Fate, Stage


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
            NaN (llama.cpp), and the order is what its sort leaves where no comparison is true: falling
            score up to 16 tokens, above what libstdc++ does (Linux builds); a note says so.
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
    on_device: ClassVar[bool] = True

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

    def acts_on_device(self) -> bool:
        """Return whether it follows no engine's undefined order, row by row."""
        return self.nan == "guard"

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
        last = self._last(c, total)
        edge = ordered.gather(1, last)
        always = torch.arange(c.width, device=place.device) < self.min_keep
        if self.ties == "all":
            keep = shift <= edge
        else:
            keep = torch.zeros_like(c.alive)
            always = always | (torch.arange(c.width, device=place.device) <= last)
        keep = keep | torch.zeros_like(keep).scatter_(1, place, always.expand(keep.shape))
        before = torch.cat([torch.zeros_like(total[:, :1]), total], -1)
        mine = torch.searchsorted(ordered, c.at(shift, float("inf")))
        margin = self.mass - before.gather(1, mine)
        effect = Effect(c, keep=keep, threshold=edge[:, 0], margin=margin)
        return self._undefined(effect) if self.nan == "undefined" else effect

    def _last(self, c: Candidates, total: Float[Tensor, "rows width"]) -> Int[Tensor, "rows 1"]:
        """Return the place at which each row's cumulative probability holds the mass."""
        short = total < self.mass if self.boundary == "reach" else total <= self.mass
        return torch.minimum(short.sum(-1, keepdim=True), c.n[:, None] - 1)

    def _undefined(self, effect: Effect) -> Effect:
        """Cut by the order that the engine's sort leaves in rows in which it compares NaN."""
        c, keep, threshold, margin = effect.base, effect.keep, effect.threshold, effect.margin
        broken = (c.size > c.n) | _underflows(c)
        rows = broken.nonzero()[:, 0].tolist()
        if not rows or keep is None or threshold is None or margin is None:
            return effect
        size, held = torch.zeros_like(c.n), torch.zeros_like(c.probs)
        keep = keep.clone()
        for row in rows:
            array = unordered(int(c.size[row]))
            place = torch.from_numpy(array[array < int(c.n[row])])  # the rest of the array is removed tokens
            total = c.running(c.probs[row : row + 1].gather(1, place[None]))[0]
            count = min(int((total <= self.mass).sum()) + 1, len(place))
            keep[row] = False
            keep[row, place[: max(count, self.min_keep)]] = True
            held[row, place[1:]] = total[:-1]
            whole = bool(total[count - 1] <= self.mass)
            size[row] = c.size[row] if whole else int((array == int(place[count - 1])).argmax()) + 1
        shown = ", ".join(map(str, rows[:4]))
        note = (
            f"row {shown}: a probability of 0 leaves the engine's order to its sort; shown as libstdc++ sorts"
        )
        margin = torch.where(broken[:, None], self.mass - c.at(held, 1.0), margin)
        size = torch.where(broken, size, tally(keep & c.alive))
        return Effect(
            c,
            keep,
            threshold=threshold.masked_fill(broken, torch.nan),
            margin=margin,
            size=size,
            notes=(note,),
        )

    def why(self, fate: Fate, /) -> str:
        """Explain: the surprise is too far from the entropy."""
        if isnan(fate.threshold):
            return f"the tokens before it in the engine's undefined order already hold {self.mass:g}"
        side = "likely" if fate.rank == 1 else "unlikely or too likely"
        return (
            f"too {side} to be typical: its surprise is further from the entropy than "
            f"{fate.threshold:.3g} nats (mass {self.mass:g} is held by more typical tokens)"
        )


def _underflows(c: Candidates) -> Bool[Tensor, " rows"]:
    """Return whether the engine's float32 gives a survivor a probability of 0."""
    weights = torch.exp((c.scores - c.top).float())
    return ((weights / weights.sum(-1, keepdim=True) == 0) & c.alive).any(-1)


@lru_cache(maxsize=32)
def unordered(size: int) -> npt.NDArray[np.int64]:
    """Return where libstdc++'s ``std::sort`` leaves the items of an array if no comparison of two is true.

    Up to 16 items stay in place. Above, its introsort swaps the middle item to the front, reverses the rest,
    halves, and goes on in both halves.

    Args:
        size: Length of the array.

    Returns:
        For every place the index of the item that ends there.
    """
    items = np.arange(size)
    parts = [(0, size)]
    while parts:
        first, last = parts.pop()
        while last - first > 16:
            middle = first + (last - first) // 2
            items[[first, middle]] = items[[middle, first]]
            items[first + 1 : last] = items[first + 1 : last][::-1].copy()
            middle = first + 1 + (last - first - 1) // 2
            parts.append((middle, last))
            last = middle
    return items
