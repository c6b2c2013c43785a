"""Hold the result of one method of attribution: scores of the spans for each target, and their cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

Window = tuple[int, int] | None
"""First and last layer; ``None`` where a method acts on the input or on all layers."""


@dataclass
class Found:
    """The result of one method on one prompt.

    Attributes:
        scores: float64 [spans, targets] by window; that of ``None`` ranks the spans.
        forward: Number of forward passes, counted per prompt.
        tokens: Tokens of these passes.
        backward: Number of backward passes for each target.
        unit: Unit of the scores.
        shared: Whether shared beginnings were run once.
        quality: Columns of ``attribution_methods`` that only some methods fill, one value per target.
    """

    scores: Mapping[Window, Tensor]
    forward: int
    tokens: int
    backward: list[int] = field(default_factory=list)
    unit: str = "nats"
    shared: bool = False
    quality: Mapping[str, list[float | int | None]] = field(default_factory=dict)
