"""The logit lens: read a residual stream out as if it were the last layer's."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


class RawLens:
    """Reads every layer with the model's own final norm and unembedding, unchanged.

    Below the last layers its probabilities are over-confident and its divergence from the output is larger
    than that of a context-free guess, so trust ranks rather than probabilities. Source: nostalgebraist 2020,
    "interpreting GPT: the logit lens".
    """

    name = "raw"

    def to_final(self, residual: Float[Tensor, "rows width"], layer: int) -> Float[Tensor, "rows width"]:
        """Return a residual unchanged."""
        del layer
        return residual
