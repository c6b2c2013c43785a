"""Split the output of a mixture of experts into what each expert wrote, and read its router's scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.model.affine import close, tolerance, wide
from elimtool.model.heads import RowIndex

NOT_A_SUM = "the experts' outputs do not add up to the layer's output"


@dataclass(frozen=True, slots=True)
class Mixture:
    """The experts of one block at the probed positions.

    Attributes:
        inputs: What the experts read.
        chosen: Index of each expert that ran, ascending.
        weights: Factor on its output.
        outputs: Sum of what the chosen experts wrote.
        whole: Output of the whole layer, shared experts included.
        shared: Output of the shared experts, before a gate of theirs; ``None`` without any.
        logits: The router's logits; ``None`` where they cannot be seen.
        scores: The router's score of every expert, see ``router_scores``.
        count: Number of experts to choose from.
        run: Runs the experts: tokens, indices and weights to outputs.
    """

    inputs: Float[Tensor, "batch probes width"]
    chosen: Int[Tensor, "batch probes k"]
    weights: Float[Tensor, "batch probes k"]
    outputs: Float[Tensor, "batch probes width"]
    whole: Float[Tensor, "batch probes width"]
    shared: Float[Tensor, "batch probes width"] | None
    logits: Float[Tensor, "batch probes experts"] | None
    scores: Float[Tensor, "batch probes experts"] | None
    count: int
    run: Callable[..., Tensor]

    def at(self, rows: RowIndex) -> Float[Tensor, "rows parts width"]:
        """Return what each chosen expert wrote at some rows, and last what the shared ones wrote, if any."""
        tokens, chosen, weights = (part[rows] for part in (self.inputs, self.chosen, self.weights))
        slots = range(chosen.shape[-1])
        parts = [wide(self.run(tokens, chosen[:, j : j + 1], weights[:, j : j + 1])) for j in slots]
        if self.shared is not None:
            parts.append(wide(self.whole[rows]) - wide(self.outputs[rows]))
        return torch.stack(parts, 1)

    def routed(
        self, rows: RowIndex
    ) -> dict[str, Float[Tensor, "rows experts"] | Int[Tensor, "rows experts"]]:
        """Describe the choice of the router at some rows, by column of table ``experts``.

        Returns:
            For every expert ``router_logit``, ``router_prob``, ``margin`` and ``dropped_mass``, NaN where
            they cannot be known; ``rank``, 0 where it cannot; and ``weight``, NaN where the expert did not
            run.
        """
        chosen, weights = self.chosen[rows], wide(self.weights[rows])
        unknown = weights.new_full((len(chosen), self.count), torch.nan)
        found = {"router_logit": unknown, "router_prob": unknown, "margin": unknown, "dropped_mass": unknown}
        found["weight"] = unknown.scatter(-1, chosen, weights)
        found["rank"] = torch.zeros_like(unknown, dtype=torch.long)
        if self.logits is not None:
            logits = wide(self.logits[rows])
            found["router_logit"] = logits
            found["rank"] = 1 + (logits[:, None] > logits[:, :, None]).sum(-1)
            found["margin"] = logits - logits.gather(-1, chosen).amin(-1, keepdim=True)
        if self.scores is not None:
            scores = self.scores[rows]
            found["router_prob"] = scores
            ran = scores.gather(-1, chosen).sum(-1, keepdim=True)
            found["dropped_mass"] = (1 - ran / scores.sum(-1, keepdim=True)).clamp(min=0).expand_as(scores)
        return found

    def explained(self, rows: RowIndex, parts: Float[Tensor, "rows parts width"]) -> Bool[Tensor, "rows"]:
        """Check that parts of ``at`` sum to the layer's output, the last one a multiple of ``shared``."""
        whole, dtype = wide(self.whole[rows]), self.whole.dtype
        if self.shared is None:
            return close(parts.sum(1), whole, whole, dtype)
        experts, own, rest = wide(self.outputs[rows]), wide(self.shared[rows]), parts[:, -1]
        gate = (own * rest).sum(-1, keepdim=True) / own.square().sum(-1, keepdim=True).clamp(min=1e-30)
        return close(parts[:, :-1].sum(1), experts, whole, dtype) & close(gate * own, rest, whole, dtype)


def router_scores(
    logits: Float[Tensor, "*rows experts"], chosen: Int[Tensor, "*rows k"], weights: Float[Tensor, "*rows k"]
) -> Callable[[Tensor], Tensor] | None:
    """Find the function from a router's logits to its scores: a softmax or a sigmoid over all experts.

    The weights of the chosen experts are proportional to their scores, whether a family divides them by
    their sum, takes the softmax over the chosen only, or multiplies them by a constant. Biases and groups
    that some families add for the choice are in neither.

    Returns:
        The function whose scores fit; ``None`` if neither does.
    """
    errors: list[tuple[float, Callable[[Tensor], Tensor]]] = []
    for kind in (_softmax, _sigmoid):
        scores = kind(wide(logits)).gather(-1, chosen)
        exact = wide(weights)
        if chosen.shape[-1] > 1:
            exact, scores = (part / part.sum(-1, keepdim=True) for part in (exact, scores))
        elif bool((exact == 1).all()):  # the only chosen one's share of itself tells nothing
            return _softmax
        errors.append((float((exact - scores).abs().max()), kind))
    least, best = min(errors, key=lambda one: one[0])
    return best if least <= 10 * tolerance(weights.dtype) else None


def _sigmoid(logits: Tensor) -> Tensor:
    return torch.sigmoid(wide(logits))


def _softmax(logits: Tensor) -> Tensor:
    return torch.softmax(wide(logits), -1)
