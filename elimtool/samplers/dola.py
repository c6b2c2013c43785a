"""DoLa: contrast the output with the readout of the earlier layer that differs most from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import torch

from elimtool.errors import ElimError
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.combine import LAYERS, Combine
from elimtool.samplers.distribution import NEG_INF
from elimtool.samplers.stage import Context, Effect, Fate


@dataclass(frozen=True)
class DoLa(Combine):
    """Keeps tokens near the most probable one, and prefers those that the later layers made more probable.

    Formula: of ``layers``, M is the one whose readout is farthest from the output by Jensen-Shannon
    divergence; keep ``p >= share * p_max``; ``l' = ln p - ln p_M``. Readouts are those of the run's lens,
    with the final norm. Threshold: ``share * p_max`` (probability). Off: no layers.

    Attributes:
        layers: Candidate layers, as in the table lens: i is after block i, -1 the embedding.
        share: Least share of the best probability that is kept, 0 .. 1.
    """

    kind: ClassVar[str] = "dola"
    main: ClassVar[str] = "layers"
    unit: ClassVar[str] = "probability"
    needs: ClassVar[str] = LAYERS
    off: ClassVar[Mapping[str, Any] | None] = {"layers": ()}
    sources: ClassVar[tuple[str, ...]] = ("Chuang et al. 2023, arXiv 2309.03883",)

    layers: tuple[int, ...] = ()
    share: float = 0.1

    def __post_init__(self) -> None:
        if not all(isinstance(layer, int) and layer >= -1 for layer in self.layers):
            raise self.bad("layers", "a list of layers from -1")
        self.number("share", 0, 1)

    def apply(self, c: Candidates, context: Context, /) -> Effect:
        """Contrast with the farthest layer."""
        readouts = self.beside(c, context)  # rows, layers, vocabulary
        last = readouts.shape[1] - 2
        if max(self.layers) >= last:
            hint = f"layers before the last go from -1 to {last - 1}"
            raise ElimError(f"{self.name}: layer {max(self.layers)} is not before the last", hint)
        early = readouts[:, [layer + 1 for layer in self.layers]].log_softmax(-1)
        own = torch.log(c.exact)
        wide = torch.log_softmax(c.wide().double(), -1)[:, None]
        apart = _divergence(wide, early)
        farthest = apart.argmax(-1)
        against = early[torch.arange(len(early)), farthest]
        other = against if c.tokens is None else against.gather(1, c.ids)
        edge = self.share * c.top_prob
        keep = c.exact >= edge[:, None]
        scores = (own - other).masked_fill(~c.alive, NEG_INF).to(c.scores)
        told = ", ".join(dict.fromkeys(str(self.layers[index]) for index in farthest.tolist()))
        notes = (f"contrasted with layer {told}",)
        return Effect(c, scores=scores, keep=keep, threshold=edge, notes=notes, other=against)

    def why(self, fate: Fate, /) -> str:
        """Explain: too improbable."""
        return f"probability {fate.prob:.3g} is under {fate.threshold:.3g}, {self.share:g} of the best"


def _divergence(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence of log-probabilities along the last axis, in nats."""
    middle = torch.logaddexp(one, other) - log(2)

    def towards(row: torch.Tensor) -> torch.Tensor:
        terms = row.exp() * (row - middle)
        return torch.where(row > NEG_INF, terms, torch.zeros_like(terms)).sum(-1)

    return (towards(one) + towards(other)) / 2
