"""Measure how far two prompts of one model are apart, layer by layer.

At the last probed position of each, the residual stream and what a lens reads out of it; over the tokens that
two prompts begin with, the residual streams of every layer, which in a causal model must be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.engine.buckets import buckets
from elimtool.engine.forward import run_batch
from elimtool.lenses.raw import RawLens
from elimtool.metrics.metric import Metric, Settings
from elimtool.model.affine import wide
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.numerics.distributions import jensen_shannon
from elimtool.numerics.ranking import nucleus
from elimtool.numerics.shapes import SURVIVORS

if TYPE_CHECKING:
    from elimtool.lenses.lens import Lens
    from elimtool.model.model import Model

CAUSAL_WITHIN = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest relative difference of two residuals that rounding explains, by the model's type.

Measured on SmolLM2 in float32 on a CPU: side by side in one pass, as here, the difference is 0 to the last
bit (100 prompts beside others); in passes of their own, whose sums are taken in another order, it is 8e-6
at most. One layer that adds a thousandth of the mean over all positions to each of them comes to 2e-3.
"""


def causal_within(dtype: torch.dtype) -> float:
    """Largest relative difference over a common prefix that is taken for rounding."""
    return CAUSAL_WITHIN.get(dtype, CAUSAL_WITHIN[torch.bfloat16])


@dataclass(frozen=True, slots=True)
class Ends:
    """The last probed positions of two prompts that ran side by side.

    Attributes:
        residuals: Their residual streams, embedding first.
        difference: Largest relative difference of the two over the tokens that both begin with, and all
            layers; ``None`` where they share none.
    """

    residuals: tuple[Float[Tensor, "layers width"], Float[Tensor, "layers width"]]
    difference: float | None


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
        cosine_distance: 1 - cosine of the residual streams, 0 .. 2; NaN where one is zero.
        relative_l2: Length of their difference over the mean of their lengths, 0 .. 2; NaN for two zeros.
        js: Jensen-Shannon divergence of the lens distributions in bits, 0 .. 1.
        jaccard: Tokens in both nuclei over tokens in either, 0 .. 1.
    """

    cosine_distance: tuple[float, ...]
    relative_l2: tuple[float, ...]
    js: tuple[float, ...]
    jaccard: tuple[float, ...]


def ends(model: Model, a: Encoded, b: Encoded) -> Ends:
    """Run two prompts side by side: their last probed positions, and what becomes of what they begin with.

    One layer at a time is held. Which prompt comes first changes no bit; equal ones are one.
    """
    n = shared(a, b)
    if (a.token_ids, a.positions) == (b.token_ids, b.positions):
        own = last_residuals(model, [a])[0][0]
        return Ends((own, own), 0.0)
    swapped = b.token_ids < a.token_ids
    both = (b, a) if swapped else (a, b)
    last = [one.positions[-1] for one in both]
    probed = [
        replace(one, positions=tuple(sorted({*range(n), end}))) for one, end in zip(both, last, strict=True)
    ]
    places = [one.positions.index(end) for one, end in zip(probed, last, strict=True)]
    seen = SharedPrefix(places, n)
    run_batch(model, probed, Settings(tables=frozenset()), RawLens(), extra=[seen.watch])
    rows = torch.stack(seen.kept, 1)
    return Ends((rows[int(swapped)], rows[1 - int(swapped)]), max(seen.apart, default=None))


class LastResiduals(Metric):
    """Keeps the residual stream at one probed position of each prompt, embedding first; fills no table.

    Args:
        probes: Which of its probed positions, of each prompt in the pass.
    """

    def __init__(self, probes: Sequence[int]) -> None:
        self.probes = list(probes)
        self.kept: list[Float[Tensor, "batch width"]] = []

    def watch(self, _batch: Batch, _settings: Settings) -> LastResiduals:
        """Take part in a pass: what ``extra`` of ``run_batch`` asks for."""
        return self

    def observe(self, view: LayerView) -> None:
        """Keep one layer's rows."""
        self.kept.append(view.residual[range(len(self.probes)), self.probes])


class SharedPrefix(LastResiduals):
    """Of two prompts, also how far they are apart over the tokens that both begin with."""

    def __init__(self, probes: Sequence[int], n_prefix: int) -> None:
        super().__init__(probes)
        self.n_prefix = n_prefix
        self.apart: list[float] = []

    def observe(self, view: LayerView) -> None:
        """Keep one layer's rows, and compare the shared tokens there."""
        super().observe(view)
        if self.n_prefix:
            same = wide(view.residual[:, : self.n_prefix])
            self.apart.append(float(_relative(same[0], same[1]).max()))


def last_residuals(
    model: Model, encoded: Sequence[Encoded], heads: bool = False
) -> tuple[list[Float[Tensor, "layers width"]], list[Any]]:
    """Residual streams of many prompts at their last probed position, embedding first.

    Args:
        model: The model.
        encoded: The prompts, each with one probed position.
        heads: Whether to look at what each head gives the spans, too.

    Returns:
        The residual streams, and the parts of the table ``attention_heads``: none without ``heads``.
    """
    found: dict[int, Tensor] = {}
    tables: list[Any] = []
    settings = Settings(tables=frozenset({"attention_heads"} if heads else ()))
    for group in buckets([len(one.token_ids) for one in encoded], max(len(encoded), 1)):
        seen = LastResiduals([-1] * len(group))
        some = [encoded[index] for index in group]
        filled = run_batch(model, some, settings, RawLens(), extra=[seen.watch])
        found.update(zip(group, torch.stack(seen.kept, 1), strict=True))
        tables += filled.values()
    return [found[index] for index in range(len(encoded))], tables


def shared(one: Encoded, other: Encoded) -> int:
    """Number of tokens that two prompts both begin with."""
    both = zip(one.token_ids, other.token_ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))


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
        residual: From ``ends`` or ``last_residuals``.
    """
    with torch.inference_mode():
        carried = [lens.to_final(row[None], layer - 1) for layer, row in enumerate(residual[:-1])]
        logits = model.readout(torch.cat([*carried, residual[-1:]]))
        logprobs = torch.log_softmax(logits, -1)
        inside = nucleus(logprobs, SURVIVORS)
    return Reading(residual, logits[-1], logprobs, inside)


def diverge(a: Reading, b: Reading) -> Divergence:
    """How far two readings are apart; exchanging them changes no bit."""
    x, y = a.residual.double(), b.residual.double()
    lengths = x.norm(dim=-1), y.norm(dim=-1)
    # half the squared distance of the directions: exact 0 for equal ones, and no cancellation near it
    directions = [part / size.clamp(min=1e-300)[:, None] for part, size in zip((x, y), lengths, strict=True)]
    cosine = ((directions[0] - directions[1]).square().sum(-1) / 2).where(
        torch.minimum(*lengths) > 0, torch.nan
    )
    total = lengths[0] + lengths[1]
    relative = (2 * (x - y).norm(dim=-1) / total.clamp(min=1e-300)).where(total > 0, torch.nan)
    js = jensen_shannon(a.logprobs, b.logprobs)
    both = (a.nucleus & b.nucleus).sum(-1).double()
    jaccard = both / (a.nucleus | b.nucleus).sum(-1)
    parts = (tuple(values.tolist()) for values in (cosine, relative, js, jaccard))
    return Divergence(*parts)
