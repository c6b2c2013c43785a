"""Mechanisms: what norm, heads and MLP of each block did to the residual stream at the probed positions.

Table ``mechanisms``. A row of layer l describes the residual that enters block l and what the block does to
it. Sources: massive activations as value and ratio, Sun et al. 2024 (arXiv 2402.17762: above 100 and about
1,000 times the median); dropping neurons up to a relative error of the output, after CETT of Luo et al. 2024
(arXiv 2411.02335). Head cancellation with its orthogonal null, top-channel share (crowding), closed-gate and
below-threshold fractions are elimtool's own definitions; the participation ratio is the inverse Herfindahl
index of the squared activations.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.metrics.columns import Columns
from elimtool.metrics.metric import ReadoutView, Settings
from elimtool.metrics.neurons import activity, droppable
from elimtool.model.affine import Projection, close, wide
from elimtool.model.view import Batch, Block, LayerView

HELD_NUMBERS = 2**22
"""Numbers in one intermediate tensor at most, about; rows are worked through in chunks that fit."""

Row = Float[Tensor, "rows"]


class Mechanisms:
    """Reduces the parts of each block to a row of numbers, layer by layer."""

    needs: ClassVar[frozenset[str]] = frozenset({"residual", "block"})
    tables: ClassVar[tuple[str, ...]] = ("mechanisms",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self.batch = batch
        self.single = settings.heads
        self.before: Tensor | None = None
        self.layers: list[int] = []
        self.flaws: list[str | None] = []
        self.found: list[dict[str, Row]] = []
        self.waiting: list[dict[str, Tensor]] = []

    def observe(self, view: LayerView) -> None:
        """Reduce one block."""
        if view.residual is None:
            return
        after = wide(view.residual[self.batch.rows])
        if view.block is not None and self.before is not None:
            self.layers.append(view.layer)
            self.flaws.append(view.block.undecomposed)
            self.found.append(self._reduce(view.block))
            self._wait(view.block, self.before, after)
        self.before = after

    def _wait(self, block: Block, before: Tensor, after: Tensor) -> None:
        """Leave what needs no weights for later, when several layers are reduced at once."""
        centred = block.norms[0] is not None and block.norms[0].fixed.centred
        one = {"before": before, "after": after, "centred": torch.full((len(before),), centred)}
        if block.mlp is not None and block.mlp.inputs is not None:
            one["neurons"] = wide(block.mlp.inputs[self.batch.rows])
        shapes = {key: value.shape for key, value in one.items()}
        if self.waiting and shapes != {key: value.shape for key, value in self.waiting[0].items()}:
            self._flush()
        self.waiting.append(one)
        if len(self.waiting) * sum(value.numel() for value in one.values()) > HELD_NUMBERS:
            self._flush()

    def _flush(self) -> None:
        if not self.waiting:
            return
        count = len(self.waiting)
        all_of = {key: torch.cat([one[key] for one in self.waiting]) for key in self.waiting[0]}
        values = stream(all_of["before"], all_of["after"], all_of["centred"].to(all_of["before"].device))
        if "neurons" in all_of:
            values |= activity(all_of["neurons"])
        for name, together in values.items():
            for found, part in zip(self.found[-count:], together.chunk(count), strict=True):
                found[name] = part
        self.waiting.clear()

    def _reduce(self, block: Block) -> dict[str, Row]:
        rows = self.batch.rows
        absent = torch.full(rows[0].shape, torch.nan, device=rows[0].device)
        first, second = (absent if norm is None else norm.scale[rows] for norm in block.norms)
        found = {"norm1_scale": first, "norm2_scale": second, **dict.fromkeys(_OPTIONAL, absent)}
        heads, mlp = block.attention, block.mlp
        if heads is not None and heads.inputs is not None and heads.inputs.shape[-1] % block.n_heads == 0:
            found.update(cancellation(wide(heads.inputs[rows]), wide(_weight(heads)), block.n_heads))
        if block.gate is not None:
            found["gate_closed_frac"] = (block.gate[rows] < 0).float().mean(-1)
        if self.single and mlp is not None and mlp.inputs is not None and mlp.sizes is not None:
            share, written = droppable(wide(mlp.inputs[rows]), wide(_weight(mlp)), mlp.sizes)
            outputs = wide(mlp.outputs[rows])
            truth = outputs if mlp.bias is None else outputs - wide(mlp.bias)
            linear = close(written, truth, outputs, mlp.outputs.dtype)
            found["cett_sparsity"] = share.where(linear, torch.nan)
        return found

    def read(self, view: ReadoutView) -> None:
        """Mechanisms have nothing to do with distributions over the vocabulary."""

    def finish(self) -> dict[str, Columns]:
        """Columns of the table."""
        if not self.layers:
            return {}
        self._flush()
        prompt, probe = (index.cpu().numpy() for index in self.batch.rows)
        count = len(self.layers)
        ids = np.array([one.prompt_id for one in self.batch.encoded], dtype=object)
        values = {key: torch.stack([one[key] for one in self.found], 1) for key in self.found[0]}
        columns: dict[str, Any] = {
            key: value.double().flatten().cpu().numpy() for key, value in values.items()
        }
        for key in ("max_channel", "n90"):
            columns[key] = np.ma.masked_invalid(columns[key])
        return {
            "mechanisms": {
                "prompt_id": ids[prompt].repeat(count),
                "position": self.batch.positions.cpu().numpy()[prompt, probe].repeat(count),
                "layer": np.tile(np.array(self.layers), len(prompt)),
                **columns,
                "undecomposed": self.flaws * len(prompt),
            }
        }


_OPTIONAL = (
    "head_cancellation",
    "head_cancellation_null",
    "gate_closed_frac",
    "below_threshold_frac",
    "participation_ratio",
    "n90",
    "cett_sparsity",
)


def _weight(part: Projection) -> Tensor:
    assert part.weight is not None
    return part.weight


def stream(
    before: Float[Tensor, "rows width"], after: Float[Tensor, "rows width"], centred: Bool[Tensor, "rows"]
) -> dict[str, Row]:
    """How crowded the entering residual is, and how the block turns and stretches it.

    Args:
        before: The residual that enters the block.
        after: The residual that leaves it.
        centred: Where the block's norm removes the mean before it measures the length.

    Returns:
        Columns by name; NaN where the residual (or its median) is 0.
    """
    size = before.abs()
    largest, channel = size.max(-1)
    normed = before - before.mean(-1, keepdim=True) * centred[:, None]
    energy = normed.double().square()
    share = energy.amax(-1) / energy.sum(-1)
    update = after - before
    lengths = [torch.linalg.vector_norm(one, dim=-1) for one in (before, after, update)]
    median = size.median(-1).values
    return {
        "top_channel_share": share,
        "top_channel_db": 10 * torch.log10((1 - share).clamp(min=0)),
        "max_abs": largest,
        "max_channel": channel.to(largest.dtype),
        "max_ratio": (largest / median).where(median > 0, torch.nan),
        "update_ratio": (lengths[2] / lengths[0]).where(lengths[0] > 0, torch.nan),
        "residual_cos": ((before * after).sum(-1) / (lengths[0] * lengths[1])).clamp(-1, 1),
        "update_cos": ((before * update).sum(-1) / (lengths[0] * lengths[2])).clamp(-1, 1),
    }


def cancellation(
    heads: Float[Tensor, "rows inner"], weight: Float[Tensor, "width inner"], n_heads: int
) -> dict[str, Row]:
    """What the heads' outputs lose to one another, and what orthogonal ones of the same lengths would.

    Args:
        heads: Inputs of the output projection, heads side by side.
        weight: The output projection.
        n_heads: Number of heads.

    Returns:
        1 - |sum of outputs| / sum of |outputs|, and 1 - sqrt(sum of |outputs|^2) / sum of |outputs|, both
        0 .. 1; NaN where every output is 0.
    """
    per_head = weight.T.reshape(n_heads, -1, weight.shape[0])
    lengths, whole = [], []
    for part in torch.split(heads, max(1, HELD_NUMBERS // (n_heads * len(weight)))):
        inputs = part.reshape(len(part), n_heads, -1).transpose(0, 1)
        outputs = inputs @ per_head
        lengths.append(torch.linalg.vector_norm(outputs, dim=-1).T)
        whole.append(torch.linalg.vector_norm(outputs.sum(0), dim=-1))
    each, total = torch.cat(lengths), torch.cat(whole)
    apart = each.sum(-1)
    orthogonal = torch.linalg.vector_norm(each, dim=-1)
    return {
        "head_cancellation": (1 - total / apart).clamp(min=0),
        "head_cancellation_null": (1 - orthogonal / apart).clamp(min=0),
    }
