"""Describe the affine parts of a model: projections, norms with a frozen scale, directions of tokens.

Vectors are held in at least float32. Nothing here depends on TransformerLens or on a model family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from elimtool.model.placement import device_of
from elimtool.numerics.transfer import sent

PROBE = 1024.0
"""Size of the vector that shows a norm's gain: far above every norm's epsilon."""


def wide(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Convert to float32, unless float64."""
    return values if values.dtype == torch.float64 else values.float()


def tolerance(dtype: torch.dtype) -> float:
    """Return the relative difference that rounding in a model of this dtype can explain."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 5e-2


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear map of a block at the probed positions: outputs = weight @ inputs + bias.

    ``weight`` and ``inputs`` are ``None`` where the map is not a single linear one (a mixture of experts).
    ``sizes`` are the Euclidean norms of the weight's columns, kept for MLPs.
    """

    inputs: Float[Tensor, "batch probes inner"] | None
    outputs: Float[Tensor, "batch probes width"]
    weight: Float[Tensor, "width inner"] | None
    bias: Float[Tensor, "width"] | None
    sizes: Float[Tensor, "inner"] | None = None

    def explained(self) -> bool:
        """Check that weight and bias map the first input to the first output, up to rounding."""
        if self.inputs is None or self.weight is None:
            return False
        rebuilt = wide(self.weight) @ wide(self.inputs[0, 0])
        if self.bias is not None:
            rebuilt = rebuilt + wide(self.bias)
        first = wide(self.outputs[0, 0])
        return bool(close(rebuilt, first, first, self.outputs.dtype))


@dataclass(frozen=True, slots=True)
class Gain:
    """A norm's gain and bias, and whether it subtracts the mean first (LayerNorm) or not (RMSNorm)."""

    gain: Float[Tensor, "width"]
    bias: Float[Tensor, "width"]
    centred: bool

    @classmethod
    def of(cls, norm: Callable[[Tensor], Tensor], width: int, sample: Tensor) -> Gain:
        """Find gain, bias and centring of a norm by running it.

        The zero vector gives the bias, a constant one shows whether the mean is subtracted, and one of mean 0
        without a zero gives the gain, whatever convention (w, 1 + w) the weight is stored in.

        Args:
            norm: The norm, on whatever device.
            width: Size of the residual stream.
            sample: Any tensor with the model's dtype, on the device for gain and bias.
        """
        device = device_of(norm, sample.device) if isinstance(norm, nn.Module) else sample.device
        signs = torch.ones(width, device=device, dtype=sample.dtype)
        signs[1::2] = -1.0
        if width % 2:  # the last three, 1, 1, -2, keep the mean at 0
            signs[-1] = -2.0
            signs[-2], signs[-3] = 1.0, 1.0
        constant = torch.ones_like(signs)
        probes = torch.stack([torch.zeros_like(signs), constant * PROBE, signs * PROBE])
        zero, flat, signed = wide(norm(probes[None])[0])
        gain = (signed - zero) * wide(signs).square().mean().sqrt() / wide(signs)  # undo the norm's division
        # a constant vector becomes 0 if centred, else as large as the gain: 0.1 is far from both
        centred = float((flat - zero).abs().max()) < 0.1 * float(gain.abs().max())
        return cls(gain.to(sample.device), zero.to(sample.device), centred)

    def centre(self, values: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Subtract the mean over channels if the norm does."""
        return values - values.mean(-1, keepdim=True) if self.centred else values

    def frozen(
        self, inputs: Float[Tensor, "batch probes width"], outputs: Float[Tensor, "batch probes width"]
    ) -> Norm:
        """Freeze the norm at some inputs; its scale follows from the outputs."""
        return Norm(self, inputs, outputs)


@dataclass(frozen=True)
class Norm:
    """A norm at the probed positions: outputs = scale * gain * (inputs - their mean, if centred) + bias."""

    fixed: Gain
    inputs: Float[Tensor, "batch probes width"]
    outputs: Float[Tensor, "batch probes width"]

    @cached_property
    def scale(self) -> Float[Tensor, "batch probes"]:
        """1 / root mean square for RMSNorm, 1 / standard deviation for LayerNorm."""
        return scales([self.fixed], self.inputs[None], self.outputs[None])[0]

    @cached_property
    def explained(self) -> Bool[Tensor, "batch probes"]:
        """Where scale, gain and bias give the outputs, up to rounding."""
        scaled = self.fixed.gain * self.fixed.centre(wide(self.inputs))
        moved = wide(self.outputs) - self.fixed.bias
        return close(scaled * self.scale[..., None], moved, wide(self.outputs), self.inputs.dtype)


def scales(
    norms: Sequence[Gain],
    inputs: Float[Tensor, "norms *rows width"],
    outputs: Float[Tensor, "norms *rows width"],
) -> Float[Tensor, "norms *rows"]:
    """Find the scales of several norms at once from their outputs; 0 where the input is 0."""
    shape = (-1, *[1] * (inputs.ndim - 2), inputs.shape[-1])
    values = wide(inputs)
    if any(norm.centred for norm in norms):
        centred = sent(torch.tensor([float(norm.centred) for norm in norms]), values.device)
        away = centred.to(values.dtype).reshape(-1, *shape[1:-1], 1)
        values = values - values.mean(-1, keepdim=True) * away
    scaled = torch.stack([norm.gain for norm in norms]).reshape(shape) * values
    moved = wide(outputs) - torch.stack([norm.bias for norm in norms]).reshape(shape)
    energy = scaled.square().sum(-1)  # least squares over the channels: no single one decides
    return torch.where(energy > 0, (moved * scaled).sum(-1) / energy, 0.0)


def pull(
    toward: Float[Tensor, "rows k width"], fixed: Gain, scale: Float[Tensor, "rows"]
) -> Float[Tensor, "rows k width"]:
    """Carry directions back through a norm of frozen scale: its linear part, transposed."""
    return fixed.centre(toward * fixed.gain * scale[:, None, None])


@dataclass(frozen=True, slots=True)
class Directions:
    """Logits of some tokens as affine functions of the last residual x, with the final norm's scale frozen.

    The logit of token y, before a soft cap, is ``toward[y] . x + constant[y]``.

    Attributes:
        toward: One direction for each row and token.
        constant: Contribution of the final norm's bias and the head's bias.
        mean_toward: The direction of the vocabulary's mean logit.
        mean_constant: Its constant.
        logits: The tokens' logits before the soft cap.
    """

    toward: Float[Tensor, "rows k width"]
    constant: Float[Tensor, "rows k"]
    mean_toward: Float[Tensor, "rows width"]
    mean_constant: Float[Tensor, "rows"]
    logits: Float[Tensor, "rows k"]

    def of(self, some: slice) -> Directions:
        """Return those of some of the tokens."""
        return Directions(
            self.toward[:, some],
            self.constant[:, some],
            self.mean_toward,
            self.mean_constant,
            self.logits[:, some],
        )


def close(
    one: Float[Tensor, "*rows width"],
    other: Float[Tensor, "*rows width"],
    scale: Float[Tensor, "*rows width"],
    dtype: torch.dtype,
) -> Bool[Tensor, "*rows"]:
    """Mark where two vectors differ by no more than rounding at the size of ``scale``."""
    difference: Tensor = torch.linalg.vector_norm(one - other, dim=-1)
    size: Tensor = torch.linalg.vector_norm(scale, dim=-1)
    return difference <= tolerance(dtype) * size + 1e-6  # so that vectors of zeros pass
