"""Define a lens: a map of any layer's residual into the basis that the model's head reads."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Lens(Protocol):
    """A map from every layer's residual stream to the last layer's.

    Attributes:
        name: Value of the tables' column ``lens``.
    """

    name: str

    def to_final(self, residual: Float[Tensor, "rows width"], layer: int) -> Float[Tensor, "rows width"]:
        """Map residuals after ``layer`` (-1 is the embedding) into the last layer's basis.

        Never called for the last layer, which is the model's own output whatever the lens.
        """
