"""A model that notes what it is asked to do."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from elimtool.model.model import Model


class Watched(Model):
    """The same weights as another model's; its passes and readouts are counted.

    Attributes:
        passes: Prompts, tokens of the longest and needs of every pass.
        read: Rows of every readout.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.passes: list[tuple[int, int, frozenset[str]]] = []
        self.read: list[int] = []

    @classmethod
    def of(cls, model: Model) -> Watched:
        return cls(**{field.name: getattr(model, field.name) for field in fields(model) if field.init})

    def stream(self, batch: Any, needs: Any, observe: Any) -> None:
        self.passes.append((*batch.ids.shape, frozenset(needs)))
        super().stream(batch, needs, observe)

    def readout(self, residual: Any, room: Any = None) -> Any:
        self.read.append(len(residual))
        return super().readout(residual, room)
