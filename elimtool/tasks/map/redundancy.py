"""Sum up how alike the heads of a layer are: where they attend, what they write, and into which space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from elimtool.model.affine import wide
from elimtool.model.carried import by_head
from elimtool.model.heads import Heads
from elimtool.model.model import Model
from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.interactions import Interactions, InteractionSums
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.part import Arrays, Watch
from elimtool.tasks.map.readable import PAST, formed, on_text, text_of
from elimtool.tasks.map.units import PAIR, TEXTS, Unit

VANISHING = 1e-6
"""Share of the largest singular value under which a direction is not one that the head writes into."""


class Redundancy:
    """Compares heads of a layer over several passages, and ablates pairs of heads on repeats."""

    needs: ClassVar[Mapping[str, frozenset[str] | None]] = {TEXTS: None, PAIR: None}

    def __init__(self, model: Model, asked: MapOptions) -> None:
        self.model = model
        self.interactions = Interactions(model, asked.tokens)
        self._spaces: dict[int, tuple[Tensor, Tensor]] = {}

    def watch(self, units: Sequence[Unit], batch: Batch) -> Watch:
        """Begin a pass."""
        del batch
        if units[0].kind == PAIR:
            return InteractionSums(self.interactions, units)
        return LikenessSums(self, units)

    def spaces(self, layer: int, heads: Heads) -> tuple[Tensor, Tensor]:
        """Return the overlap of the spaces that a layer's heads write into, and that of random ones."""
        if layer not in self._spaces:
            self._spaces[layer] = overlaps(by_head(wide(heads.weight), heads.count).transpose(0, 1))
        return self._spaces[layer]


class LikenessSums:
    """Sums of several passages that are run together, a unit at a time.

    By unit, [layers, heads, heads]: ``js``, the divergence of two heads' attention over ``js.rows`` queries,
    and ``js.null``, of one head's and another's on the next passage, over ``null.rows``; ``hsic`` of what
    they write, and ``hsic.null`` of the other's on the next passage; ``affinity`` and ``affinity.null``.
    [layers]: ``rows`` of ``hsic``. [layers, heads]: ``size``, the mean of a head's own products.
    """

    def __init__(self, part: Redundancy, units: Sequence[Unit]) -> None:
        self.part, self.units = part, units
        layers, heads = part.model.n_layers, part.model.n_heads
        self.shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(PAIRED, (layers, heads, heads)), "rows": (layers,), "size": (layers, heads)
        }  # fmt: skip

    def observe(self, view: LayerView, rows: Formed | None) -> None:
        """Look at nothing: the passages are run together in ``sums``."""

    def sums(self) -> Arrays:
        """Run the passages of each unit, and return all arrays."""
        found = [self._of(unit) for unit in self.units]
        return {name: torch.stack([one[name] for one in found]).numpy() for name in self.shapes}

    def totals(self) -> Arrays:
        """Return nothing: every number is of a unit."""
        return {}

    def _of(self, unit: Unit) -> dict[str, Tensor]:
        batch = Batch.of(unit.sequences, self.part.model.device)
        text = text_of([Unit(unit.kind, 0, one) for one in unit.sequences], batch)
        found = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in self.shapes.items()}

        def observe(view: LayerView) -> None:
            if view.layer < 0:
                return
            known: dict[str, Tensor] = {}
            if (rows := formed(view)) is not None:
                known |= attended_apart(*on_text(rows, text, PAST))
            if view.block is not None and (heads := view.block.heads) is not None:
                known |= written_alike(heads, text)
                known["affinity"], known["affinity.null"] = self.part.spaces(view.layer, heads)
            for name, one in known.items():
                found[name][view.layer] = one.double().cpu()

        self.part.model.stream(batch, {"attention", "block"}, observe)
        return found


PAIRED = (
    "js", "js.rows", "js.null", "null.rows", "hsic", "hsic.null", "affinity", "affinity.null"
)  # fmt: skip


def attended_apart(
    weights: Float64[Tensor, "texts heads queries keys"], counts: Bool[Tensor, "texts heads queries"]
) -> dict[str, Float64[Tensor, "heads heads"]]:
    """Sum the Jensen-Shannon divergence (bits) of two heads' attention over the queries that both have.

    Args:
        weights: Attention shared out over the keys that are no sinks, see ``on_text``.
        counts: Which rows count.

    Returns:
        ``js`` over ``js.rows``, and its null over ``null.rows``: the other head's row of the next text.
    """
    heads = weights.shape[1]
    found = {name: weights.new_zeros(heads, heads) for name in ("js", "js.rows", "js.null", "null.rows")}
    rows = weights.float()  # sums of logarithms: three digits are enough, in half of the time
    own = torch.special.entr(rows).sum(-1)
    for name, count, step in (("js", "js.rows", 0), ("js.null", "null.rows", 1)):
        others, apart, there = (one.roll(step, 0) for one in (rows, own, counts))
        for head in range(heads):
            mixed = torch.special.entr((rows[:, head : head + 1] + others) / 2).sum(-1)
            both = counts[:, head : head + 1] & there
            js = (mixed - (own[:, head : head + 1] + apart) / 2).clamp(0, log(2)) / log(2)
            found[name][head] = (js * both).double().sum((0, 2))
            found[count][head] = both.double().sum((0, 2))
    # of the null both directions are as good
    return {name: (one + one.T) / 2 for name, one in found.items()}


def written_alike(heads: Heads, text: Bool[Tensor, "texts keys"]) -> dict[str, Tensor]:
    """Compare what two heads write at the tokens of several passages.

    Source: the unbiased HSIC of Song et al. 2007, as ``unbiased_hsic``; of linear kernels, Kornblith et al.
    2019 (arXiv 1905.00414).

    Args:
        heads: The layer's heads at all positions.
        text: Tokens that are no sinks.

    Returns:
        ``hsic`` and ``hsic.null`` (the other head at the same place of the next passage), [heads, heads];
        ``size``, the mean of each head's squared length, [heads]; ``rows``.
    """
    inputs = by_head(wide(heads.inputs), heads.count)[text].double().transpose(0, 1)
    weight = by_head(wide(heads.weight), heads.count).transpose(0, 1).double()
    products = inputs @ (weight.mT @ weight) @ inputs.mT
    size = products.diagonal(dim1=-2, dim2=-1).mean(-1)
    n = products.shape[-1]
    if n < 4:
        zero = products.new_zeros(heads.count, heads.count)
        return {"hsic": zero, "hsic.null": zero, "size": size, "rows": torch.tensor(float(n))}
    moved = round(n / len(text))
    return {
        "hsic": unbiased_hsic(products, products),
        "hsic.null": unbiased_hsic(products, products.roll((moved, moved), (-2, -1))),
        "size": size,
        "rows": torch.tensor(float(n)),
    }


def unbiased_hsic(
    one: Float64[Tensor, "heads rows rows"], other: Float64[Tensor, "others rows rows"]
) -> Float64[Tensor, "heads others"]:
    """Return the unbiased HSIC of each kernel matrix of one with each of the other: 0 if independent."""
    n = one.shape[-1]
    flat, sums, whole = [], [], []
    for kernels in (one, other):
        bare = kernels - torch.diag_embed(kernels.diagonal(dim1=-2, dim2=-1))
        flat.append(bare.flatten(1))
        sums.append(bare.sum(-1))
        whole.append(bare.sum((-2, -1)))
    trace = flat[0] @ flat[1].T
    crossed = sums[0] @ sums[1].T
    total = whole[0][:, None] * whole[1]
    return (trace + total / ((n - 1) * (n - 2)) - 2 / (n - 2) * crossed) / (n * (n - 3))


def overlaps(
    maps: Float[Tensor, "heads width size"],
) -> tuple[Float64[Tensor, "heads heads"], Float64[Tensor, "heads heads"]]:
    """Return how far the column spaces of maps are the same, 0 to 1, and the mean of random ones.

    The squared Frobenius norm of U'V over the square root of both ranks; for random spaces that is the square
    root of the ranks' product over the width. Source: TransformerLens' ``projection_kernel.py``, which
    compares outputs with later inputs.
    """
    bases, values, _ = torch.linalg.svd(maps, full_matrices=False)
    kept = values > VANISHING * values.amax(-1, keepdim=True)
    bases = (bases * kept[:, None]).double()
    ranks = kept.double().sum(-1)
    scale = (ranks[:, None] * ranks).sqrt()
    flat = (bases.transpose(0, 1).flatten(1).mT @ bases.transpose(0, 1).flatten(1)).square()
    heads, size = kept.shape
    shared = flat.reshape(heads, size, heads, size).sum((1, 3))
    return torch.where(scale > 0, shared / scale, 0.0), scale / maps.shape[1]
