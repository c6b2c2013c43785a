"""Mechanisms: what norm, heads and MLP of each block do to the residual stream at the probed positions.

Table ``mechanisms``. The row of layer l describes the residual that enters block l, and what the block does
to it. Sources: massive activations as value and ratio, Sun et al. 2024 (arXiv 2402.17762: above 100 and about
1,000 times the median of the whole hidden state); dropping neurons up to a relative error of the output,
after CETT of Luo et al. 2024 (arXiv 2411.02335). Head cancellation with its orthogonal null, top-channel
share (crowding), closed-gate and below-threshold fractions are elimtool's own definitions; the participation
ratio is the inverse Herfindahl index of the squared activations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, place
from elimtool.metrics.metric import Here, Metric, Settings
from elimtool.metrics.neurons import activity, droppable
from elimtool.model.affine import Gain, close, scales, wide
from elimtool.model.view import Batch, Block, LayerView
from elimtool.numerics.transfer import sent

PerRow = Float[Tensor, "*rows"]


class _WaitingBlock(NamedTuple):
    """Parts of one block at the probed positions, which wait to be reduced together with other blocks'."""

    shown: dict[str, Tensor]
    gains: tuple[Gain | None, ...]
    weight: Tensor | None

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shapes of the parts; only blocks of the same shapes are reduced together."""
        return {key: value.shape for key, value in self.shown.items()}


class Mechanisms(Metric):
    """Reduces the parts of each block to a row of numbers, layer by layer."""

    needs: frozenset[str] = frozenset({"block", "typical"})
    tables: ClassVar[tuple[str, ...]] = ("mechanisms",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.before: Tensor | None = None
        self.typical: Tensor | None = None
        self.layers: list[int] = []
        self.flaws: list[Callable[[], str | None] | None] = []
        self.waiting: list[_WaitingBlock] = []
        self.found: list[dict[str, PerRow]] = []

    def observe(self, view: LayerView) -> None:
        """Keep one block; several are reduced at once."""
        after = wide(self.batch.real(view.residual))
        if view.block is not None and self.before is not None and self.typical is not None:
            self.layers.append(view.layer)
            self.flaws.append(view.block.flaw)
            shown = {
                "before": self.before,
                "after": after,
                "typical": self.typical,
                **self._shown(view.block),
            }
            gains = tuple(None if norm is None else norm.fixed for norm in view.block.norms)
            self._wait(_WaitingBlock(shown, gains, None if view.block.mlp is None else view.block.mlp.weight))
        self.before = after
        self.typical = None if view.typical is None else view.typical[self.batch.rows[0]]

    def _shown(self, block: Block) -> dict[str, Tensor]:
        """Select the parts of a block to reduce later."""
        real, one = self.batch.real, dict[str, Tensor]()
        for number, norm in enumerate(block.norms, 1):
            if norm is not None:
                one |= {f"in{number}": real(norm.inputs), f"out{number}": real(norm.outputs)}
        if block.heads is not None:
            outputs = block.heads.few(self.batch.rows)
            if outputs is None:
                one["lengths"], one["length_of_sum"] = block.heads.lengths(self.batch.rows)
            else:
                one["heads"] = outputs
        if block.gate is not None:
            one["gate"] = real(block.gate)
        mlp = block.mlp
        if mlp is not None and mlp.inputs is not None and mlp.weight is not None:
            one["neurons"] = wide(real(mlp.inputs))
            if self.settings.heads and self.settings.dropping and mlp.sizes is not None:
                one["sizes"] = mlp.sizes
                one["outputs"] = real(mlp.outputs)
                one["truth"] = one["outputs"] if mlp.bias is None else wide(one["outputs"]) - wide(mlp.bias)
        return one

    def _wait(self, one: _WaitingBlock) -> None:
        if self.waiting and one.shapes != self.waiting[0].shapes:
            self._flush()
        self.waiting.append(one)
        if (
            len(self.waiting) * sum(value.numel() for value in one.shown.values())
            > self.settings.held_numbers
        ):
            self._flush()

    @torch.inference_mode()
    def _flush(self) -> None:
        """Reduce the waiting blocks."""
        if not self.waiting:
            return
        blocks, self.waiting = self.waiting, []
        given = {key: torch.stack([one.shown[key] for one in blocks]) for key in blocks[0].shown}
        absent = torch.full(given["before"].shape[:2], torch.nan, device=given["before"].device)
        self.found.append(dict.fromkeys(_OPTIONAL, absent) | _reduced(given, blocks))

    def end(self) -> None:
        """Reduce what waits, and bring the numbers."""
        self._flush()
        self.before = self.typical = None
        if self.layers:
            # parts are [layers, rows], and the table has rows first
            found = {
                key: torch.cat([one[key].double() for one in self.found]).T.flatten() for key in self.found[0]
            }
            self.found.clear()
            self.bring(found, self._columns)

    def _columns(self, here: Here) -> dict[str, Columns]:
        rows, layer = np.indices((len(self.batch.rows.here[0]), len(self.layers))).reshape(2, -1)
        columns: dict[str, Any] = dict(here)
        for key in ("max_channel", "n90"):
            columns[key] = np.ma.masked_invalid(columns[key])
        return {
            "mechanisms": {
                **place(self.batch, self.batch.rows, rows),
                "layer": np.array(self.layers)[layer],
                **columns,
                "undecomposed": Categorical([None if flaw is None else flaw() for flaw in self.flaws], layer),
            }
        }


_OPTIONAL = (
    "norm1_scale",
    "norm2_scale",
    "head_cancellation",
    "head_cancellation_null",
    "gate_closed_frac",
    "below_threshold_frac",
    "participation_ratio",
    "n90",
    "cett_sparsity",
)


def _reduced(given: dict[str, Tensor], blocks: Sequence[_WaitingBlock]) -> dict[str, PerRow]:
    """Return columns by name, [blocks, rows], from the stacked parts of the blocks."""
    gains = [one.gains for one in blocks]
    centred = torch.tensor([first is not None and first.centred for first, _ in gains])
    centred = sent(centred, given["before"].device)
    found = stream(given["before"], given["after"], given["typical"], centred[:, None])
    for number, some in enumerate(zip(*gains, strict=True), 1):
        if f"in{number}" in given:
            known = [gain for gain in some if gain is not None]
            found[f"norm{number}_scale"] = scales(known, given[f"in{number}"], given[f"out{number}"])
    if "heads" in given:
        each: Tensor = torch.linalg.vector_norm(given["heads"], dim=-1)
        found |= cancellation(each, torch.linalg.vector_norm(given["heads"].sum(2), dim=-1))
    if "lengths" in given:
        found |= cancellation(given["lengths"], given["length_of_sum"])
    if "gate" in given:
        found["gate_closed_frac"] = (given["gate"] < 0).float().mean(-1)
    if "neurons" in given:
        found |= activity(given["neurons"])
    if "sizes" in given:
        weights = [one.weight for one in blocks if one.weight is not None]
        share, written = droppable(given["neurons"], weights, given["sizes"])
        outputs = given["outputs"]
        linear = close(written, wide(given["truth"]), wide(outputs), outputs.dtype)
        found["cett_sparsity"] = share.where(linear, torch.nan)
    return found


def stream(
    before: Float[Tensor, "*rows width"],
    after: Float[Tensor, "*rows width"],
    typical: Float[Tensor, "*rows"],
    centred: Bool[Tensor, "*some"],
) -> dict[str, PerRow]:
    """Measure how crowded the entering residual is, and how the block turns and stretches it.

    Args:
        before: The residual that enters the block.
        after: The residual that leaves it.
        typical: Median absolute value of the entering residuals of the whole prompt.
        centred: Whether the block's norm subtracts the mean first; may be broadcast.

    Returns:
        Columns by name; NaN where the residual (or the median) is 0.
    """
    size = before.abs()
    largest, channel = size.max(-1)
    normed = before - before.mean(-1, keepdim=True) * centred[..., None]
    energy = normed.double().square()  # float64: 1 - share would lose its digits for massive activations
    share = energy.amax(-1) / energy.sum(-1)
    update = after - before
    lengths = [torch.linalg.vector_norm(one, dim=-1) for one in (before, after, update)]
    return {
        "top_channel_share": share,
        "top_channel_db": 10 * torch.log10((1 - share).clamp(min=0)),
        "max_abs": largest,
        "max_channel": channel.to(largest.dtype),
        "max_ratio": (largest / typical).where(typical > 0, torch.nan),
        "update_ratio": (lengths[2] / lengths[0]).where(lengths[0] > 0, torch.nan),
        # rounding can push a cosine past 1
        "residual_cos": ((before * after).sum(-1) / (lengths[0] * lengths[1])).clamp(-1, 1),
        "update_cos": ((before * update).sum(-1) / (lengths[0] * lengths[2])).clamp(-1, 1),
    }


def cancellation(
    lengths: Float[Tensor, "*rows heads"], length_of_sum: Float[Tensor, "*rows"]
) -> dict[str, PerRow]:
    """Measure how much the heads' outputs cancel, and how much orthogonal ones of the same lengths would.

    Args:
        lengths: Euclidean norms of the heads' outputs.
        length_of_sum: Euclidean norm of their sum.

    Returns:
        1 - |sum of outputs| / sum of |outputs|, and 1 - sqrt(sum of |outputs|^2) / sum of |outputs|, both
        0 .. 1; NaN where every output is 0.
    """
    apart = lengths.sum(-1)
    orthogonal = torch.linalg.vector_norm(lengths, dim=-1)
    return {
        "head_cancellation": (1 - length_of_sum / apart).clamp(min=0),
        "head_cancellation_null": (1 - orthogonal / apart).clamp(min=0),
    }
