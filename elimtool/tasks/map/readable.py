"""Read attention on the keys that are no sinks: what parts of a map have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from elimtool.model.rows import Formed
from elimtool.model.view import Batch, LayerView
from elimtool.tasks.map.units import Unit

LEAST = 0.01
"""A head that leaves less than this to keys that are no sinks has no row there: it would be noise."""
PAST = 32
"""First query of definitions that need a past."""


def formed(view: LayerView) -> Formed | None:
    """Return a layer's attention rows of all queries; ``None`` for a layer without attention weights."""
    if view.attention is not None:
        return Formed(view.attention, view.scores, view.null_mass)
    return None if view.rows is None else view.rows.whole()


def text_of(units: Sequence[Unit], batch: Batch) -> Bool[Tensor, "units keys"]:
    """Mark the tokens that are no sinks."""
    text = torch.ones(batch.ids.shape, dtype=torch.bool, device=batch.ids.device)
    for row, unit in enumerate(units):
        text[row, list(unit.encoded.sinks)] = False
    return text


def on_text(
    rows: Formed, text: Bool[Tensor, "units keys"], first: int
) -> tuple[Float64[Tensor, "units heads queries keys"], Bool[Tensor, "units heads queries"]]:
    """Share attention out over the keys that are no sinks.

    Args:
        rows: Attention rows of all positions.
        text: Tokens that are no sinks.
        first: First query that is read.

    Returns:
        Weights of the queries from ``first`` on that sum to 1, or are all 0 where the row does not count, and
        which rows count: of queries that are no sinks and leave ``LEAST`` or more to other keys.
    """
    kept = rows.weights[:, :, first:].double() * text[:, None, None]
    total = kept.sum(-1)
    counts = (total >= LEAST) & text[:, None, first:]
    return torch.where(counts, 1 / total, 0.0)[..., None] * kept, counts
