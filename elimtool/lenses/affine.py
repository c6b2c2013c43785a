"""The form of every calibrated lens: one affine map per layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class AffineLens:
    """A lens that maps a residual x to ``A_l x + b_l``.

    Args:
        name: Value of the column ``lens``.
        weight: ``A_l`` for layers -1 .. n_layers - 2, rows are outputs; float32.
        bias: ``b_l`` for the same layers.
    """

    def __init__(
        self,
        name: str,
        weight: Float[Tensor, "layers width width"],
        bias: Float[Tensor, "layers width"],
    ) -> None:
        self.name = name
        self.weight = weight
        self.bias = bias
        self._there: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def to_final(self, residual: Float[Tensor, "rows width"], layer: int) -> Float[Tensor, "rows width"]:
        """Map a residual after ``layer`` into the last layer's basis, computed in the lens's float32."""
        index = layer + 1  # layer -1 is the first
        if not 0 <= index < len(self.weight):
            raise ValueError(f"the lens '{self.name}' has no map for layer {layer}")
        weight, bias = (part[index] for part in self._on(residual.device))
        return torch.nn.functional.linear(residual.to(weight.dtype), weight, bias).to(residual.dtype)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return all maps on a device, where they stay: every pass needs them."""
        if device not in self._there:
            self._there[device] = self.weight.to(device), self.bias.to(device)
        return self._there[device]
