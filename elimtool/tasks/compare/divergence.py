"""Measure how far two prompts of one model are apart, layer by layer.

Compared are the residual stream and a lens's reading at the last probed position of each prompt. Over their
common prefix, the residual streams of a causal model must be the same at every layer, which is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.engine.buckets import passes_of
from elimtool.engine.forward import launch
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
"""Largest relative difference of two residuals that rounding explains, by the model's number type.

Measured on SmolLM2 in float32 on a CPU: side by side in one pass, as here, the difference is 0 to the last
bit (100 prompts beside others); in passes of their own, whose sums are taken in another order, it is 8e-6
at most. One layer that adds a thousandth of the mean over all positions to each of them gives 2e-3.
"""


def causal_within(dtype: torch.dtype) -> float:
    """Largest relative difference over a common prefix that counts as rounding."""
    return CAUSAL_WITHIN.get(dtype, CAUSAL_WITHIN[torch.bfloat16])


@dataclass(frozen=True, slots=True)
class Ends:
    """The last probed positions of two prompts that ran side by side.

    Attributes:
        residuals: Their residual streams, embedding first.
        difference: Largest relative difference of the two over their common prefix and all layers; ``None``
            without a common prefix.
    """

    residuals: tuple[Float[Tensor, "layers width"], Float[Tensor, "layers width"]]
    difference: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a lens reads at the last probed position of a prompt, embedding first, the output last.

    Attributes:
        residual: Residual stream, in the model's number type.
        logits: The model's output.
        logprobs: Log-probabilities of every layer (nats).
        nucleus: Whether a token is in the smallest set that holds 0.9 of a layer's probability.
    """

    residual: Float[Tensor, "layers width"]
    logits: Float[Tensor, "vocab"]
    logprobs: Float[Tensor, "layers vocab"]
    nucleus: Bool[Tensor, "layers vocab"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """Distances of two readings, embedding first, the output last.

    Attributes:
        cosine_distance: 1 - cosine of the residual streams, 0 .. 2; NaN where one is zero.
        relative_l2: Norm of their difference over the mean of their norms, 0 .. 2; NaN if both are zero.
        js: Jensen-Shannon divergence of the lens distributions in bits, 0 .. 1.
        jaccard: Number of tokens in both nuclei over the number in either, 0 .. 1.
    """

    cosine_distance: tuple[float, ...]
    relative_l2: tuple[float, ...]
    js: tuple[float, ...]
    jaccard: tuple[float, ...]


def ends(model: Model, a: Encoded, b: Encoded) -> Ends:
    """Run two prompts in one pass, keep their last probed positions and compare their common prefix.

    Holds one layer at a time. Exchanging the prompts changes no bit; equal prompts are run once.
    """
    n = shared(a, b)
    if (a.token_ids, a.positions) == (b.token_ids, b.positions):
        own = last_residuals(model, [a])[0][0]
        return Ends((own, own), 0.0)
    swapped = b.token_ids < a.token_ids  # one order for both ways round: sums may depend on the row
    both = (b, a) if swapped else (a, b)
    last = [one.positions[-1] for one in both]
    probed = [
        replace(one, positions=tuple(sorted({*range(n), end}))) for one, end in zip(both, last, strict=True)
    ]
    places = [one.positions.index(end) for one, end in zip(probed, last, strict=True)]
    seen = SharedPrefix(places, n)
    with model.whole():  # what ran once for both could not differ
        launch(model, probed, Settings(tables=frozenset()), RawLens(), extra=[seen.watch]).tables()
    rows = torch.stack(seen.kept, 1)
    return Ends((rows[int(swapped)], rows[1 - int(swapped)]), max(seen.apart, default=None))


class LastResiduals(Metric):
    """Keeps the residual stream at one probed position of each prompt, embedding first; fills no table.

    Args:
        probes: Index among its probed positions, for each prompt in the pass.
    """

    def __init__(self, probes: Sequence[int]) -> None:
        self.probes = list(probes)
        self.kept: list[Float[Tensor, "batch width"]] = []

    def watch(self, _batch: Batch, _settings: Settings) -> LastResiduals:
        """Take part in a pass, as a member of ``extra`` of ``launch``."""
        return self

    def observe(self, view: LayerView) -> None:
        """Keep one layer's rows."""
        self.kept.append(view.residual[range(len(self.probes)), self.probes])


class SharedPrefix(LastResiduals):
    """Also compares two prompts over their common prefix, layer by layer."""

    def __init__(self, probes: Sequence[int], n_prefix: int) -> None:
        super().__init__(probes)
        self.n_prefix = n_prefix
        self.apart: list[float] = []

    def observe(self, view: LayerView) -> None:
        """Keep one layer's rows, and compare the common prefix there."""
        super().observe(view)
        if self.n_prefix:
            same = wide(view.residual[:, : self.n_prefix])
            self.apart.append(float(_relative(same[0], same[1]).max()))


def last_residuals(
    model: Model, encoded: Sequence[Encoded], heads: bool = False
) -> tuple[list[Float[Tensor, "layers width"]], list[Any]]:
    """Compute residual streams of many prompts at their last probed position, embedding first.

    Args:
        model: The model.
        encoded: The prompts, each with one probed position.
        heads: Whether to measure the attention of single heads to the spans, too.

    Returns:
        The residual streams, and the parts of the table ``attention_heads``; none without ``heads``.
    """
    found: dict[int, Tensor] = {}
    tables: list[Any] = []
    settings = Settings(tables=frozenset({"attention_heads"} if heads else ()))
    for group in passes_of(model, [one.token_ids for one in encoded], max(len(encoded), 1)):
        seen = LastResiduals([-1] * len(group))
        some = [encoded[index] for index in group]
        filled = launch(model, some, settings, RawLens(), extra=[seen.watch]).tables()
        found.update(zip(group, torch.stack(seen.kept, 1), strict=True))
        tables += filled.values()
    return [found[index] for index in range(len(encoded))], tables


def shared(one: Encoded, other: Encoded) -> int:
    """Count the tokens of the common prefix of two prompts."""
    both = zip(one.token_ids, other.token_ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))


def _relative(one: Float[Tensor, "rows width"], other: Float[Tensor, "rows width"]) -> Float[Tensor, "rows"]:
    """Norm of the difference over the larger norm; 0 if both are 0."""
    larger = torch.maximum(one.norm(dim=-1), other.norm(dim=-1))
    apart: Tensor = (one - other).norm(dim=-1)
    return apart / larger.clamp(min=torch.finfo(larger.dtype).tiny)


def read(model: Model, lens: Lens, residual: Float[Tensor, "layers width"]) -> Reading:
    """Read out the residual stream of one position at every layer.

    Args:
        model: The model.
        lens: Reads the layers before the last.
        residual: From ``ends`` or ``last_residuals``.
    """
    with torch.inference_mode():
        carried = [lens.to_final(row[None], layer - 1) for layer, row in enumerate(residual[:-1])]
        logits = model.readout(torch.cat([*carried, residual[-1:]]))
        logprobs = torch.log_softmax(logits, -1)
        inside = nucleus(logprobs, SURVIVORS)
    return Reading(residual, logits[-1], logprobs, inside)


def diverge(a: Reading, b: Reading) -> Divergence:
    """Measure how far two readings are apart; exchanging them changes no bit."""
    x, y = a.residual.double(), b.residual.double()
    lengths = x.norm(dim=-1), y.norm(dim=-1)
    # 1 - cosine as half the squared distance of unit vectors: exactly 0 if equal, no cancellation near 0
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
