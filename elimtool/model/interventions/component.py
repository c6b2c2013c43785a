"""Parse and check the names of components, such as ``17.3``, ``mlp.12`` and ``expert.12.7``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from elimtool.errors import ElimError
from elimtool.model.experts import experts_of, n_experts
from elimtool.model.interventions.edits import Site
from elimtool.prompts.component import SHAPES, parse_component, parse_expert

if TYPE_CHECKING:
    from elimtool.model.model import Model


@dataclass(frozen=True, slots=True)
class Component:
    """An attention head, an expert of a mixture, or an MLP where both are ``None``."""

    layer: int
    head: int | None = None
    expert: int | None = None

    @classmethod
    def parse(cls, text: str) -> Component | None:
        """Read a name, see ``elimtool.prompts.component``; ``None`` if it is not one."""
        if expert := parse_expert(text):
            return cls(expert[0], expert=expert[1])
        found = parse_component(text)
        return None if found is None else cls(*found)

    def __str__(self) -> str:
        if self.expert is not None:
            return f"expert.{self.layer}.{self.expert}"
        return f"mlp.{self.layer}" if self.head is None else f"{self.layer}.{self.head}"

    @property
    def kind(self) -> str:
        """``head``, ``mlp`` or ``expert``."""
        if self.expert is not None:
            return "expert"
        return "mlp" if self.head is None else "head"

    @property
    def site(self) -> Site:
        """Where its output can be read and replaced."""
        if self.expert is not None:
            return Site(self.layer, "experts")
        return Site(self.layer, "mlp" if self.head is None else "heads")

    @property
    def number(self) -> int | None:
        """Which head or expert of its site; ``None`` for an MLP, which is all of it."""
        return self.head if self.expert is None else self.expert

    def check(self, model: Model, option: str) -> None:
        """Refuse a component that a model does not have.

        Raises:
            ElimError: The model lacks it; the message names ``option`` and the valid range.
        """
        if self.layer >= model.n_layers:
            raise ElimError(
                f"`{option}` {self}: {model.name} has no layer {self.layer}",
                f"its layers are 0 to {model.n_layers - 1}",
            )
        if self.expert is not None:
            self._check_expert(model, option)
        if self.head is not None and self.head >= model.n_heads:
            raise ElimError(
                f"`{option}` {self}: {model.name} has no head {self.head} in a layer",
                f"its heads are 0 to {model.n_heads - 1}",
            )

    def _check_expert(self, model: Model, option: str) -> None:
        blocks = [experts_of(block) for block in model.bridge.blocks]
        if (experts := blocks[self.layer]) is None:
            mixed = [layer for layer, one in enumerate(blocks) if one is not None]
            raise ElimError(
                f"`{option}` {self}: {model.name} has no experts in layer {self.layer}",
                f"its mixtures are in layers {mixed[0]} to {mixed[-1]}" if mixed else SHAPES,
            )
        if self.expert is not None and self.expert >= n_experts(experts):
            raise ElimError(
                f"`{option}` {self}: layer {self.layer} of {model.name} has no expert {self.expert}",
                f"its experts are 0 to {n_experts(experts) - 1}",
            )


def component(text: str, option: str) -> Component:
    """Read a component's name.

    Raises:
        ElimError: It is not one; the message names ``option``.
    """
    found = Component.parse(text)
    if found is None:
        raise ElimError(f"`{option}` must name a head, an MLP or an expert, got '{text}'", SHAPES)
    return found
