"""XTC (exclude top choices): remove all but the least probable of the top choices, by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect, Fate, Stage
from elimtool.samplers.vocabulary import Vocabulary


@dataclass(frozen=True)
class XTC(Stage):
    """By chance, removes every token that reaches a probability, except the least probable of them.

    Formula: sorted, with m leading tokens of ``p >= threshold``: if m >= 2, remove the first m - 1.
    Threshold: a probability. Margin (nats): ``ln threshold - ln p_next``, p_next being the next less probable
    token: a token dies exactly when that one reaches the threshold too. Off: probability = 0, or threshold >
    0.5 (two tokens cannot both reach it).

    Chance is explicit: ``fires`` fixes the branch; else a draw given to the chain decides; without either the
    likelier branch is shown (it fires if probability >= 0.5) and a note says so.

    Attributes:
        probability: Chance of acting, 0 .. 1.
        threshold: Least probability of a "top choice", 0 .. 1.
        fires: Fixed branch.
        draw: Whether it fires when the draw is ``at_most`` the probability (llama.cpp) or ``under`` it
            (KoboldCpp).
        min_keep: Where fewer would remain, nothing is removed (llama.cpp).
        protected: Where one of these ids would be removed, nothing is.
        spares: Texts whose last tokens are protected, once the chain is given the vocabulary
            (text-generation-webui: a newline).
        eos: Tokens that end a text, where they are protected too (text-generation-webui); ``null`` = the
            model's own, once the chain is given them.
    """

    kind: ClassVar[str] = "xtc"
    main: ClassVar[str] = "probability"
    unit: ClassVar[str] = "probability"
    margin_unit: ClassVar[str] = "nats"
    off: ClassVar[Mapping[str, Any] | None] = {"probability": 0.0}
    sources: ClassVar[tuple[str, ...]] = (
        "llama.cpp src/llama-sampler.cpp llama_sampler_xtc",
        "koboldcpp gpttype_adapter.cpp sample_xtc",
        "text-generation-webui modules/sampler_hijack.py XTCLogitsWarper",
    )
    on_device: ClassVar[bool] = True

    probability: float = 0.0
    threshold: float = 0.1
    fires: bool | None = None
    draw: Literal["at_most", "under"] = "at_most"
    min_keep: int = 0
    protected: tuple[int, ...] = ()
    spares: tuple[str, ...] = ()
    eos: tuple[int, ...] | None = ()

    def __post_init__(self) -> None:
        self.number("probability", 0, 1)
        self.number("threshold", 0, 1)
        self.one_of("draw", ("at_most", "under"))
        self.integer("min_keep", 0)
        if not all(isinstance(text, str) and text for text in self.spares):
            raise self.bad("spares", "texts that are not empty")
        if self.fires is not None:
            self.boolean("fires")

    def is_off(self) -> bool:
        """Return whether the stage can never act."""
        return self.probability == 0 or self.threshold > 0.5

    @property
    def wants_text(self) -> bool:
        """Whether tokens are protected by their texts."""
        return bool(self.spares)

    def spelled(self, vocabulary: Vocabulary, /) -> XTC:
        """Protect the last token of each text."""
        if (encode := vocabulary.encode) is None:
            return self
        last = [ids[-1] for ids in map(encode, self.spares) if ids]
        return replace(self, spares=(), protected=(*self.protected, *last))

    def _branch(self, c: Candidates, context: Context) -> tuple[Bool[Tensor, " rows"], tuple[str, ...]]:
        """Return the rows it acts on, and a note where no draw decides."""
        every = torch.ones_like(c.n, dtype=torch.bool)
        if self.fires is not None:
            return every & self.fires, ()
        if context.draws is not None:
            draws = context.draws.to(c.scores.device)
            return draws <= self.probability if self.draw == "at_most" else draws < self.probability, ()
        shown = self.probability >= 0.5
        word = "shown as acting" if shown else "shown as not acting"
        return every & shown, (
            f"no draw given: {word}, the likelier branch at probability {self.probability:g}",
        )

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Remove the top choices but the least probable."""
        fires, notes = self._branch(c, context)
        c = c.sorted()
        following = torch.cat([c.probs[:, 1:], torch.zeros_like(c.probs[:, :1])], -1)
        # the least probable survivor stays: with a threshold of 0 the nothing after it would reach it too
        followed = torch.arange(c.width, device=c.scores.device) + 1 < c.n[:, None]
        removed = (following >= self.threshold) & followed & fires[:, None]
        left = c.size - removed.sum(-1)
        spared = left < self.min_keep
        if protected := (*self.protected, *(self.eos or ())):
            spared = spared | (removed & c.among(protected)).any(-1)
        keep = ~(removed & ~spared[:, None])
        level = log(self.threshold) if self.threshold > 0 else -torch.inf
        # NaN where the threshold is 0 and there is no next token: never removed
        margin = (level - c.at(following, 0.0).log()).nan_to_num(torch.inf, torch.inf, -torch.inf)
        margin = margin.masked_fill(spared[:, None], torch.inf)
        return Effect(
            c,
            keep=keep,
            threshold=torch.full_like(c.top[:, 0], self.threshold),
            margin=margin,
            active=fires,
            size=torch.where(spared, c.size, left),
            notes=notes,
        )

    def why(self, fate: Fate, /) -> str:
        """Explain: the token is too likely."""
        return (
            f"eliminated for being too likely: probability {fate.prob:.3g} reaches the threshold "
            f"{self.threshold:g}, and so does a less likely token"
        )
