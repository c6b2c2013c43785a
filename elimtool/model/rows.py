"""Form attention rows of some queries from queries and keys: weights, scores, and what goes to no key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.model.affine import wide

FORMED_NUMBERS = 2**20
"""Attention weights of probed queries formed at a time: 4 MiB. Reducing them takes a few times that.

On a GPU, see ``roomy``.
"""

EVERY = slice(None)


@dataclass(frozen=True, slots=True)
class Formed:
    """Attention rows of some queries.

    Attributes:
        weights: Attention weights, at least float32.
        scores: What the softmax was taken of (after scale, soft cap and position bias), -inf for hidden keys;
            ``None`` where only the weights are known.
        null: The weight that a learned score without a key took; ``None`` in layers without one.
    """

    weights: Float[Tensor, "batch heads rows keys"]
    scores: Float[Tensor, "batch heads rows keys"] | None = None
    null: Float[Tensor, "batch heads rows"] | None = None

    def to(self, device: torch.device) -> Formed:
        """Return the rows on a device."""
        parts = (self.weights, self.scores, self.null)
        weights, scores, null = (None if one is None else one.to(device) for one in parts)
        assert weights is not None
        return Formed(weights, scores, null)


@dataclass(frozen=True, slots=True)
class AttentionRows:
    """Attention rows of one layer's probed queries, formed on request.

    Attributes:
        form: Forms the rows of slices of probes, prompts and keys.
        last: The latest position of each probe, over all prompts; it sees no later keys.
        each: Number of weights of one probe: batch x heads x keys.
        null: Whether a score without a key takes part in the softmax, so that weights sum to less than 1.
        most: Weights formed at a time, at most.
        query: Queries of the probes after rotary embedding, on the layer's device.
        key: Keys after rotary embedding, of each group of heads.
        scale: Factor on their products.
    """

    form: Callable[[slice, slice, slice], Formed]
    last: tuple[int, ...]
    each: int
    null: bool = False
    most: int = FORMED_NUMBERS
    query: Float[Tensor, "batch heads probes size"] | None = None
    key: Float[Tensor, "batch groups keys size"] | None = None
    scale: float = 1.0

    @property
    def probes(self) -> int:
        """Number of probes."""
        return len(self.last)

    def fits(self) -> bool:
        """Tell whether all rows may be held at once."""
        return self.probes * self.each <= self.most

    def whole(self) -> Formed:
        """Form all rows."""
        return self.form(slice(0, self.probes), EVERY, EVERY)

    def of(self, prompts: slice, probes: slice) -> Float[Tensor, "prompts heads some keys"]:
        """Form the weights of some probes of some prompts."""
        return self.form(probes, prompts, EVERY).weights

    def parts(self) -> Iterator[tuple[slice, Formed]]:
        """Yield slices of as many probes as may be held, with their rows, without later keys."""
        size = max(1, self.most // self.each)
        for start in range(0, self.probes, size):
            some = slice(start, min(self.probes, start + size))
            yield some, self.form(some, EVERY, slice(0, max(self.last[some]) + 1))


def attended(
    query: Float[Tensor, "batch heads rows size"],
    key: Float[Tensor, "batch groups keys size"],
    scale: float,
    visible: Bool[Tensor, "batch rows keys"],
    bias: Float[Tensor, "batch some rows keys"] | None = None,
    softcap: float | None = None,
    sinks: Float[Tensor, "heads"] | None = None,
) -> Formed:
    """Compute attention rows of some queries, in at least float32.

    Args:
        query: Queries after rotary embedding.
        key: Keys after rotary embedding, one for each group of query heads.
        scale: Factor on the scores.
        visible: Keys that each query may see.
        bias: Added to the scores.
        softcap: c of c tanh(score / c); ``None`` for none.
        sinks: For each head, a score that takes part in the softmax and has no key.
    """
    batch, heads, n, size = query.shape
    groups = key.shape[1]
    # heads of one group side by side, so that its key is not repeated for each of them
    grouped = (wide(query) * scale).reshape(batch, groups, heads // groups * n, size)
    scores = (grouped @ wide(key).transpose(2, 3)).reshape(batch, heads, n, -1)
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    if bias is not None:
        scores = scores + wide(bias)
    scores = scores.masked_fill_(~visible[:, None], -torch.inf)
    if sinks is None:
        return Formed(torch.softmax(scores, -1), scores)
    column = wide(sinks).reshape(1, -1, 1, 1).expand(batch, heads, n, 1)
    shares = torch.softmax(torch.cat([scores, column], -1), -1)
    return Formed(shares[..., :-1], scores, shares[..., -1])


def mixed(
    weights: Float[Tensor, "batch heads rows keys"], value: Float[Tensor, "batch groups keys other"]
) -> Float[Tensor, "batch rows heads other"]:
    """Average values with some queries' weights."""
    batch, heads, n, keys = weights.shape
    grouped = weights.reshape(batch, value.shape[1], -1, keys) @ wide(value)
    return grouped.reshape(batch, heads, n, -1).transpose(1, 2)
