"""Logits of every layer at some rows in; the shape of each distribution out, and how near it is to the last.

On a CPU a few layers of one row are reduced at a time, so that they stay in the processor's cache and no
log-probabilities of the whole vocabulary are ever stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from elimtool.numerics import NEGLIGIBLE, entropy_and_collision, kl_to_last
from elimtool.ranking import Edge, count_true, edge, marked, nucleus, top

SURVIVORS = 0.9
"""Share of the probability that the survivor set (nucleus) of a layer holds."""

TOGETHER = 4
"""Layers reduced at a time: as many as fit a processor's cache with their temporaries."""

Cells = Float64[Tensor, "layers rows"]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Numbers of every layer and row; layer -1 (the embedding) comes first, the model's output last.

    N_l is the survivor set of layer l: the smallest set of most probable tokens that holds ``SURVIVORS``
    (Holtzman et al. 2020, arXiv 1904.09751). N_L is the output's.

    Attributes:
        top: The most probable token, the first of equals.
        normaliser: ln of the sum of exp(logit); a logit minus it is a log-probability (nats).
        entropy: Shannon entropy (nats), 0 .. ln(vocab).
        collision: Chance that two independent draws agree, 1/vocab .. 1.
        kl: KL(output || layer) (nats): exactly 0 at the output, infinite where a layer lacks a token of it
            that is not negligible.
        size: |N_l|.
        jaccard: |N_l and N_L| / |N_l or N_L|, 0 .. 1.
        mass: Probability that layer l gives the tokens of N_L, 0 .. 1.
        leading: The best scores of every cell, layer by layer, rising, all from the least of them on: what
            ``ranking.rank`` likes to know. Only on a CPU.
    """

    top: Int[Tensor, "layers rows"]
    normaliser: Cells
    entropy: Cells
    collision: Cells
    kl: Cells
    size: Int[Tensor, "layers rows"]
    jaccard: Cells
    mass: Cells
    leading: Sequence[npt.NDArray[Any]] | None

    def leading_of(self, layers: slice, rows: slice) -> Sequence[npt.NDArray[Any]] | None:
        """The best scores of some layers at some rows, layer by layer."""
        if self.leading is None:
            return None
        n_layers, n_rows = self.top.shape
        return [
            one
            for layer in range(n_layers)[layers]
            for one in self.leading[layer * n_rows : (layer + 1) * n_rows][rows]
        ]


def shapes(logits: Float[Tensor, "layers rows vocab"]) -> Shapes:
    """The shapes of some rows' distributions at every layer; ``top`` and ``normaliser`` stay on the device.

    Args:
        logits: float32 or better; ``-inf`` marks a removed token, and each distribution has one that is not.
    """
    return _row_by_row(logits) if logits.device.type == "cpu" else _at_once(logits)


def _at_once(logits: Float[Tensor, "layers rows vocab"]) -> Shapes:
    """All layers and rows in every operation, as a GPU likes it."""
    logprobs, first = torch.log_softmax(logits, -1), top(logits)
    best = first[..., None]
    flat = logprobs.reshape(-1, logits.shape[-1])
    inside = nucleus(flat, SURVIVORS).view(logits.shape)
    entropy, collision = (part.reshape(logits.shape[:2]) for part in entropy_and_collision(flat))
    sizes, common = count_true(inside), torch.empty(inside.shape[:2], dtype=torch.long)
    mass = torch.empty(inside.shape[:2], dtype=torch.float64)
    for row, last in enumerate(inside[-1]):
        ids = last.nonzero()[:, 0]
        common[:, row] = count_true(inside[:, row, ids])
        mass[:, row] = logprobs[:, row, ids].double().exp().sum(-1)
    return Shapes(
        top=first,
        normaliser=(logits.gather(-1, best).double() - logprobs.gather(-1, best).double())[..., 0],
        entropy=entropy.double().cpu(),
        collision=collision.double().cpu(),
        kl=kl_to_last(logprobs).double().cpu(),
        size=sizes,
        jaccard=common.double() / (sizes + sizes[-1] - common),
        mass=mass,
        leading=None,
    )


def _row_by_row(logits: Float[Tensor, "layers rows vocab"]) -> Shapes:
    n_layers, n_rows, vocab = logits.shape
    scratch = _Scratch(logits.new_empty(3, min(TOGETHER, n_layers), vocab), logits.new_ones(vocab))
    found = [_row(logits[:, row], scratch) for row in range(n_rows)]
    numbers = {key: torch.from_numpy(np.stack([one[key] for one, _ in found], 1)) for key in found[0][0]}
    return Shapes(
        **numbers, leading=[edges[layer].leading for layer in range(n_layers) for _, edges in found]
    )


class _Scratch:
    """Room for the temporaries of a few layers, used again for all of them."""

    def __init__(self, room: Float[Tensor, "3 layers vocab"], ones: Float[Tensor, "vocab"]) -> None:
        self.below, self.weights, self.output = room[0], room[1], room[2, 0]
        self.ones = ones


def _row(
    logits: Float[Tensor, "layers vocab"], scratch: _Scratch
) -> tuple[dict[str, npt.NDArray[Any]], list[Edge]]:
    """One row's numbers, by the names of ``Shapes``, and where its nuclei end."""
    n_layers, _ = logits.shape
    values = logits.numpy()
    first = np.empty(n_layers, dtype=np.int64)
    weight, weighted, squared, cross, best = np.empty((5, n_layers))
    held = _output(logits[-1], scratch)
    edges: list[Edge] = []
    for start in range(0, n_layers, TOGETHER):
        some = slice(start, min(n_layers, start + TOGETHER))
        part = values[some]
        first[some] = part.argmax(-1)
        highest = np.take_along_axis(part, first[some, None], -1)
        best[some] = highest[:, 0]
        below, weights = scratch.below[: len(part)], scratch.weights[: len(part)]
        torch.sub(logits[some], torch.from_numpy(highest), out=below)
        cross[some] = _cross(scratch.output, below)
        torch.exp(below.clamp_(min=NEGLIGIBLE), out=weights)
        weight[some] = (weights @ scratch.ones).double().numpy()
        for layer, one, other in zip(range(some.start, some.stop), weights, below, strict=True):
            weighted[layer], squared[layer] = float(one.dot(other)), float(one.dot(one))
            edges.append(edge(values[layer], SURVIVORS, best[layer] + log(weight[layer])))
    spread = np.log(weight)
    normaliser = best + spread
    share = held / weight[-1]
    ahead = share * spread - cross / weight[-1]
    common, mass = _shared(values, normaliser, edges)
    size = np.array([one.size for one in edges])
    numbers = {
        "top": first,
        "normaliser": normaliser,
        "entropy": np.maximum(spread - weighted / weight, 0.0),
        "collision": squared / weight**2,
        "kl": np.maximum(ahead - ahead[-1], 0.0),
        "size": size,
        "jaccard": common / (size + size[-1] - common),
        "mass": mass,
    }
    return numbers, edges


def _output(logits: Float[Tensor, "vocab"], scratch: _Scratch) -> float:
    """Put the output's probabilities, up to a factor, into ``scratch.output``; their sum.

    Those too small to count in any sum are 0, so that what a layer makes of such tokens counts nowhere.
    """
    torch.sub(logits, logits.amax(), out=scratch.output)
    torch.threshold_(scratch.output.clamp_(min=2 * NEGLIGIBLE).exp_(), float(np.exp(NEGLIGIBLE)), 0.0)
    return float(scratch.output.dot(scratch.ones))


def _cross(output: Float[Tensor, "vocab"], below: Float[Tensor, "layers vocab"]) -> npt.NDArray[np.float64]:
    """Sums over tokens of the output's share times how far a layer has them below its best."""
    found = below @ output
    if bool(found.isnan().any()):  # 0 times -inf: a token that both removed
        found = below.masked_fill(output == 0, 0.0) @ output
    return found.double().numpy()


def _shared(
    values: npt.NDArray[Any], normaliser: npt.NDArray[np.float64], edges: list[Edge]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """How many of the output's survivors every layer has among its own, and the probability it gives them."""
    ids = np.flatnonzero(marked(values[-1], edges[-1]))
    theirs = values[:, ids]
    common = (theirs >= np.array([one.score for one in edges], dtype=values.dtype)[:, None]).sum(-1)
    for layer, one in enumerate(edges):
        if one.tied is not None:
            common[layer] = np.count_nonzero(marked(values[layer], one)[ids])
    return common, np.exp(np.subtract(theirs, normaliser[:, None], dtype=np.float64)).sum(-1)
