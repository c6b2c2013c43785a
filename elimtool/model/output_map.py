"""Describe how the heads of one block reach the residual stream."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.model.affine import Gain, wide


@dataclass(frozen=True)
class OutputMap:
    """D W_O, the output projection and the norm behind it, but for that norm's scale.

    Attributes:
        weight: The output projection.
        gain: The norm behind attention, ``None`` for most families.
        count: Number of heads.
        kept: What is computed once a model and block.
    """

    weight: Float[Tensor, "width inner"]
    gain: Gain | None
    count: int
    kept: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def plain(self) -> bool:
        """Whether ``whole`` is the weight itself, not one that is made for each use."""
        return self.gain is None and self.weight.dtype in (torch.float32, torch.float64)

    @property
    def whole(self) -> Float[Tensor, "width inner"]:
        """The map of all heads side by side."""
        weight = wide(self.weight)
        if self.gain is None:
            return weight
        return self.gain.centre(weight.T).T * self.gain.gain[:, None]

    @property
    def gram(self) -> Float[Tensor, "heads size size"]:
        """Each head's map times its transpose: |map v|^2 = v gram v. Kept, as it is small."""
        if "gram" not in self.kept:
            each = self.whole.reshape(len(self.weight), self.count, -1).transpose(0, 1)
            self.kept["gram"] = each.transpose(1, 2) @ each
        return self.kept["gram"]
