"""Reduce each layer's distribution to statistics of its shape, and compare it with the last layer's.

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

from elimtool.numerics.distributions import NEGLIGIBLE, entropy_and_collision, kl_to_last
from elimtool.numerics.ranking import Edge, edge, marked, nucleus, top

SURVIVORS = 0.9
"""Probability that the survivor set (nucleus) of a layer holds."""

TOGETHER = 16
"""Layers reduced at a time; they fit a processor's cache with their temporaries."""

ROWS = 8
"""Rows whose normalisers are computed at a time; they fit it too."""

Cells = Float64[Tensor, "layers rows"]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Statistics of every layer and row; layer -1 (the embedding) comes first, the model's output last.

    N_l is the survivor set of layer l: the smallest set of most probable tokens that holds ``SURVIVORS``
    (Holtzman et al. 2020, arXiv 1904.09751). N_L is the output's.

    Attributes:
        top: The most probable token, the first of equals.
        normaliser: ln of the sum of exp(logit); a logit minus it is a log-probability (nats).
        entropy: Shannon entropy (nats), 0 .. ln(vocab).
        collision: Chance that two independent draws agree, 1/vocab .. 1.
        kl: KL(output || layer) (nats): exactly 0 at the output, infinite where a layer has removed one of
            its tokens that is not negligible.
        size: |N_l|.
        jaccard: |N_l and N_L| / |N_l or N_L|, 0 .. 1.
        mass: Probability that layer l gives the tokens of N_L, 0 .. 1.
        leading: The best scores of every layer and row, layer by layer, rising, which make
            ``ranking.rank`` faster; only on a CPU.
        maxima: The largest score of each block of tokens, [layers * rows, blocks], for the same purpose; only
            where compiled loops were used.
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
    maxima: npt.NDArray[np.float32] | None = None

    def leading_of(self, layers: slice, rows: slice) -> Sequence[npt.NDArray[Any]] | None:
        """Return the best scores of some layers at some rows, layer by layer."""
        if self.leading is None:
            return None
        n_layers, n_rows = self.top.shape
        return [
            one
            for layer in range(n_layers)[layers]
            for one in self.leading[layer * n_rows : (layer + 1) * n_rows][rows]
        ]


def shapes(logits: Float[Tensor, "layers rows vocab"], compiled: bool = False) -> Shapes:
    """Reduce distributions at every layer; the numbers stay on the device.

    Args:
        logits: float32 or better; ``-inf`` marks a removed token; each distribution keeps at least one.
        compiled: Whether compiled loops may be used, for float32 on a CPU: see ``elimtool.numerics.kernels``.
    """
    if not logits.is_cpu:
        return _at_once(logits)
    return _in_loops(logits) if compiled and logits.dtype == torch.float32 else _row_by_row(logits)


def normaliser(logits: Float[Tensor, "rows vocab"], compiled: bool = False) -> Float[Tensor, "rows"]:
    """Return ln of the sum of exp(logit) of each row, on the device; arguments as of ``shapes``."""
    if not logits.is_cpu:
        return logits.logsumexp(-1)
    if compiled and logits.dtype == torch.float32:
        from elimtool.numerics.kernels.rows import normalisers

        return torch.from_numpy(normalisers(logits.numpy()))
    return torch.cat([part.logsumexp(-1) for part in torch.split(logits, ROWS)])


def _at_once(logits: Float[Tensor, "layers rows vocab"]) -> Shapes:
    """Reduce all layers and rows in every operation, which suits a GPU."""
    logprobs, first = torch.log_softmax(logits, -1), top(logits)
    best = first[..., None]
    flat = logprobs.reshape(-1, logits.shape[-1])
    inside = nucleus(flat, SURVIVORS).view(logits.shape)
    entropy, collision = (part.reshape(logits.shape[:2]) for part in entropy_and_collision(flat))
    sizes, common = inside.sum(-1), (inside & inside[-1]).sum(-1)
    mass = logprobs.exp().where(inside[-1], 0.0).sum(-1, dtype=torch.float64)
    return Shapes(
        top=first,
        normaliser=(logits.gather(-1, best).double() - logprobs.gather(-1, best).double())[..., 0],
        entropy=entropy.double(),
        collision=collision.double(),
        kl=kl_to_last(logprobs).double(),
        size=sizes,
        jaccard=common.double() / (sizes + sizes[-1] - common),
        mass=mass,
        leading=None,
    )


def _in_loops(logits: Float[Tensor, "layers rows vocab"]) -> Shapes:
    """Reduce each row in one compiled loop over its layers; without loops where a score is NaN or +inf."""
    from elimtool.numerics.kernels.rows import reduced

    answer = reduced(logits.numpy(), SURVIVORS)
    if answer is None:
        return _row_by_row(logits)
    found, leading, n, maxima = answer
    cells = zip(leading.reshape(n.size, -1), n.flat, strict=True)
    numbers: dict[str, Any] = {name: torch.from_numpy(values) for name, values in settled(**found).items()}
    return Shapes(
        **numbers,
        leading=[scores[len(scores) - own :] for scores, own in cells],
        maxima=maxima.reshape(n.size, -1),
    )


def _row_by_row(logits: Float[Tensor, "layers rows vocab"]) -> Shapes:
    n_layers, n_rows, _ = logits.shape
    scratch = _Scratch(min(TOGETHER, n_layers), logits[0, 0])
    found = [_row(logits[:, row], scratch) for row in range(n_rows)]
    numbers: dict[str, Any] = {
        key: torch.from_numpy(np.stack([one[key] for one, _ in found], 1)) for key in found[0][0]
    }
    return Shapes(
        **numbers, leading=[edges[layer].leading for layer in range(n_layers) for _, edges in found]
    )


class _Scratch:
    """Memory for the temporaries of a few layers, reused for all."""

    def __init__(self, layers: int, sample: Float[Tensor, "vocab"]) -> None:
        self.below, self.weights = sample.new_empty(2, layers, len(sample))
        self.output = torch.empty_like(sample)


def _row(
    logits: Float[Tensor, "layers vocab"], scratch: _Scratch
) -> tuple[dict[str, npt.NDArray[Any]], list[Edge]]:
    """Reduce one row to numbers by the names of ``Shapes``, and find where its nuclei end."""
    n_layers = len(logits)
    values = logits.numpy()
    first, best = np.empty(n_layers, dtype=np.int64), np.empty(n_layers, dtype=values.dtype)
    weight, weighted, squared, cross, mass = np.empty((5, n_layers))
    common = np.empty(n_layers, dtype=np.int64)
    edges: list[Edge] = []
    held = _output(logits[-1], scratch)
    ids = torch.empty(0, dtype=torch.long)  # the output's survivors
    for stop in range(n_layers, 0, -TOGETHER):  # the output first: the others are compared with it
        some = slice(max(0, stop - TOGETHER), stop)
        below, weights = scratch.below[: stop - some.start], scratch.weights[: stop - some.start]
        first[some] = [row.argmax() for row in values[some]]
        best[some] = values[range(some.start, stop), first[some]]
        torch.sub(logits[some], torch.from_numpy(best[some, None]), out=below)
        cross[some] = _cross(scratch.output, below)
        torch.exp(below.clamp_(min=NEGLIGIBLE), out=weights)
        weight[some] = weights.sum(-1).numpy()
        weighted[some] = [float(one.dot(other)) for one, other in zip(weights, below, strict=True)]
        ends = [edge(values[i], SURVIVORS, float(best[i]) + log(weight[i])) for i in range(some.start, stop)]
        edges = ends + edges
        if stop == n_layers:
            ids = torch.from_numpy(np.flatnonzero(marked(values[-1], edges[-1])))
        common[some] = _common(logits[some], ids, ends)
        mass[some] = weights.index_select(1, ids).sum(-1, dtype=torch.float64).numpy()
        squared[some] = weights.mul_(weights).sum(-1).numpy()
    numbers = settled(
        top=first,
        size=np.array([one.size for one in edges]),
        best=best,
        weight=weight,
        weighted=weighted,
        squared=squared,
        cross=cross,
        held=held,
        mass=mass,
        common=common,
    )
    return numbers, edges


def settled(
    *,
    top: npt.NDArray[Any],
    size: npt.NDArray[Any],
    best: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    weighted: npt.NDArray[Any],
    squared: npt.NDArray[Any],
    cross: npt.NDArray[Any],
    held: npt.NDArray[Any] | float,
    mass: npt.NDArray[Any],
    common: npt.NDArray[Any],
) -> dict[str, npt.NDArray[Any]]:
    """Compute numbers by the names of ``Shapes`` from sums over the vocabulary, layers along the first axis.

    Args:
        top: The most probable token.
        size: Tokens in the nucleus.
        best: The largest score.
        weight: Sum of exp(score - best), the weights.
        weighted: Sum of weight times (score - best).
        squared: Sum of squared weights.
        cross: Sum of the output's weight times (score - best).
        held: Sum of the output's weights.
        mass: Sum of weights of the output's nucleus.
        common: Tokens of the output's nucleus that are in the layer's too.
    """
    spread = np.log(weight)
    ahead = held / weight[-1] * spread - cross / weight[-1]
    # clamped at 0, because rounding makes some of these differences slightly negative
    return {
        "top": top.astype(np.int64),
        "normaliser": best + spread,
        "entropy": np.maximum(spread - weighted / weight, 0.0),
        "collision": squared / weight**2,
        "kl": np.maximum(ahead - ahead[-1], 0.0),
        "size": size.astype(np.int64),
        "jaccard": common / (size + size[-1] - common),
        "mass": mass / weight,
    }


def _output(logits: Float[Tensor, "vocab"], scratch: _Scratch) -> float:
    """Put the output's probabilities, up to a factor, into ``scratch.output``; return their sum.

    Those too small to count in any sum become 0, so that a layer cannot make such tokens count.
    """
    torch.sub(logits, logits.amax(), out=scratch.output)
    torch.threshold_(scratch.output.clamp_(min=2 * NEGLIGIBLE).exp_(), float(np.exp(NEGLIGIBLE)), 0.0)
    return float(scratch.output.sum())


def _cross(output: Float[Tensor, "vocab"], below: Float[Tensor, "layers vocab"]) -> npt.NDArray[Any]:
    """Sum the output's weight of each token times its distance from the layer's best logit."""
    found = (below @ output).numpy()
    if np.isnan(found).any():  # 0 times -inf: both removed the token
        found = (below.masked_fill(output == 0, 0.0) @ output).numpy()
    return found


def _common(
    logits: Float[Tensor, "layers vocab"], ids: Int[Tensor, "tokens"], ends: Sequence[Edge]
) -> npt.NDArray[np.int64]:
    """Count the given tokens that each layer has among its survivors."""
    theirs = logits.index_select(1, ids).numpy()
    found = np.count_nonzero(theirs >= np.array([[one.score] for one in ends], dtype=theirs.dtype), -1)
    for layer, one in enumerate(ends):
        if one.tied is not None:
            found[layer] = np.count_nonzero(marked(logits[layer].numpy(), one)[ids.numpy()])
    return np.asarray(found)
