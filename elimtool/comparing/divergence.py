"""Encoded prompts of one model in, how far each is from the first of them out, layer by layer.

At the last probed position of each, the residual stream and what a lens reads out of it; over the tokens that
two prompts begin with, the residual streams of every layer, which in a causal model must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.intake import BATCH_TOKENS
from elimtool.metrics.lens import SURVIVORS
from elimtool.model.affine import wide
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.numerics import jensen_shannon, nucleus

if TYPE_CHECKING:
    from elimtool.lenses.lens import Lens
    from elimtool.model.model import Model

CAUSAL_WITHIN = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest relative difference of two residuals that rounding explains, by the model's type.

Measured on SmolLM2 in float32 on a CPU: side by side in one pass, as here, the difference is 0 to the last
bit (100 prompts beside others); in passes of their own, whose sums are taken in another order, it is 8e-6
at most. One layer that adds a thousandth of the mean over all positions to each of them comes to 2e-3.
"""


@dataclass(frozen=True, slots=True)
class Final:
    """The last probed position of a prompt.

    Attributes:
        residual: The residual stream, embedding first.
        difference: Largest relative difference from the first prompt over the tokens that both begin with,
            and all layers; ``None`` for the first itself, and where they share none.
        n_prefix: Number of these tokens.
    """

    residual: Float[Tensor, "layers width"]
    difference: float | None
    n_prefix: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a lens reads at the last probed position of a prompt, embedding first, the output last.

    Attributes:
        residual: The residual stream, in the model's type.
        logits: The model's output.
        logprobs: Of every layer (nats).
        nucleus: Which tokens are in the smallest set that holds 0.9 of a layer's probability.
    """

    residual: Float[Tensor, "layers width"]
    logits: Float[Tensor, "vocab"]
    logprobs: Float[Tensor, "layers vocab"]
    nucleus: Bool[Tensor, "layers vocab"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far two readings are apart, embedding first, the output last.

    Attributes:
        cosine_distance: 1 - cosine of the residual streams, 0 .. 2.
        relative_l2: Length of their difference over the mean of their lengths, 0 .. 2.
        js: Jensen-Shannon divergence of the lens distributions in bits, 0 .. 1.
        jaccard: Tokens in both nuclei over tokens in either, 0 .. 1.
    """

    cosine_distance: tuple[float, ...]
    relative_l2: tuple[float, ...]
    js: tuple[float, ...]
    jaccard: tuple[float, ...]


def finals(model: Model, encoded: Sequence[Encoded]) -> list[Final]:
    """The last probed position of each prompt, and what becomes of the tokens that it shares with the first.

    Each batch holds the first prompt too, so that what they begin with is read in one pass; one layer at a
    time is held. Batches are in an order of their own: which prompt comes first changes no bit of a pair.

    Args:
        model: The model.
        encoded: At least one prompt.
    """
    found = [_run(model, encoded[:1], 0)[0]] if len(encoded) == 1 else []
    for some in _batches(encoded):
        order = sorted(range(len(some)), key=lambda index: some[index].token_ids)
        places = {index: place for place, index in enumerate(order)}
        read = _run(model, [some[index] for index in order], places[0])
        found += [read[places[index]] for index in range(1 if found else 0, len(some))]
    return found


def _batches(encoded: Sequence[Encoded]) -> Iterator[list[Encoded]]:
    """The first prompt beside the second alone, which so does not depend on the rest; then beside those."""
    if len(encoded) > 1:
        yield list(encoded[:2])
    rest = encoded[2:]
    at_once = max(1, BATCH_TOKENS // max(len(one.token_ids) for one in encoded) - 1)
    yield from ([encoded[0], *rest[start : start + at_once]] for start in range(0, len(rest), at_once))


def shared(one: Encoded, other: Encoded) -> int:
    """Number of tokens that two prompts both begin with."""
    both = zip(one.token_ids, other.token_ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))


def _run(model: Model, encoded: Sequence[Encoded], home: int) -> list[Final]:
    """One pass over prompts, of which the one at ``home`` is the first."""
    lengths = [shared(encoded[home], one) for one in encoded]
    lengths[home] = max((n for row, n in enumerate(lengths) if row != home), default=0)
    ends = [one.positions[-1] for one in encoded]
    probed = [
        replace(one, positions=tuple(sorted({*range(n), end})))
        for n, one, end in zip(lengths, encoded, ends, strict=True)
    ]
    last = [one.positions.index(end) for one, end in zip(probed, ends, strict=True)]
    rows = list(range(len(encoded)))
    kept: list[Tensor] = []
    apart = [0.0] * len(encoded)

    def observe(view: LayerView) -> None:
        assert view.residual is not None
        kept.append(view.residual[rows, last])
        own = wide(view.residual[home])
        for row, n in enumerate(lengths):
            if n and row != home:
                apart[row] = max(apart[row], float(_relative(wide(view.residual[row, :n]), own[:n]).max()))

    model.stream(Batch.of(probed, model.device), {"residual"}, observe)
    residuals = torch.stack(kept, 1)
    return [
        Final(residuals[row], None if row == home or not n else apart[row], n)
        for row, n in enumerate(lengths)
    ]


def _relative(one: Float[Tensor, "rows width"], other: Float[Tensor, "rows width"]) -> Float[Tensor, "rows"]:
    """Length of the difference over the larger length; 0 for two that are 0."""
    larger = torch.maximum(one.norm(dim=-1), other.norm(dim=-1))
    apart: Tensor = (one - other).norm(dim=-1)
    return apart / larger.clamp(min=torch.finfo(larger.dtype).tiny)


def read(model: Model, lens: Lens, residual: Float[Tensor, "layers width"]) -> Reading:
    """Read a final position out at every layer.

    Args:
        model: The model.
        lens: How layers before the last are read.
        residual: From ``finals``.
    """
    with torch.inference_mode():
        carried = [lens.to_final(row[None], layer - 1) for layer, row in enumerate(residual[:-1])]
        logits = model.readout(torch.cat([*carried, residual[-1:]]))
        logprobs = torch.log_softmax(logits, -1)
        tokens, member = nucleus(logprobs, SURVIVORS)
        inside = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        layer, place = member.nonzero(as_tuple=True)
        inside[layer, tokens[layer, place]] = True
    return Reading(residual, logits[-1], logprobs, inside)


def diverge(a: Reading, b: Reading) -> Divergence:
    """How far two readings are apart; exchanging them changes no bit."""
    x, y = a.residual.double(), b.residual.double()
    lengths = x.norm(dim=-1), y.norm(dim=-1)
    # half the squared distance of the directions: exact 0 for equal ones, and no cancellation near it
    directions = [part / size.clamp(min=1e-300)[:, None] for part, size in zip((x, y), lengths, strict=True)]
    cosine = (directions[0] - directions[1]).square().sum(-1) / 2
    relative = 2 * (x - y).norm(dim=-1) / (lengths[0] + lengths[1]).clamp(min=1e-300)
    js = torch.cat([jensen_shannon(p[None], q[None]) for p, q in zip(a.logprobs, b.logprobs, strict=True)])
    both = (a.nucleus & b.nucleus).sum(-1).double()
    jaccard = both / (a.nucleus | b.nucleus).sum(-1)
    parts = (tuple(values.tolist()) for values in (cosine, relative, js, jaccard))
    return Divergence(*parts)
