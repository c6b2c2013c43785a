"""Parse and check the names of components, such as ``17.3`` and ``mlp.12``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from elimtool.errors import ElimError
from elimtool.model.interventions.edits import Site
from elimtool.prompts.component import SHAPES, parse_component

if TYPE_CHECKING:
    from elimtool.model.model import Model


@dataclass(frozen=True, slots=True)
class Component:
    """An attention head, or an MLP where ``head`` is ``None``."""

    layer: int
    head: int | None = None

    @classmethod
    def parse(cls, text: str) -> Component | None:
        """Read a name, see ``elimtool.prompts.component``; ``None`` if it is not one."""
        found = parse_component(text)
        return None if found is None else cls(*found)

    def __str__(self) -> str:
        return f"mlp.{self.layer}" if self.head is None else f"{self.layer}.{self.head}"

    @property
    def kind(self) -> str:
        """``head`` or ``mlp``."""
        return "mlp" if self.head is None else "head"

    @property
    def site(self) -> Site:
        """Where its output can be read and replaced."""
        return Site(self.layer, "mlp" if self.head is None else "heads")

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
        if self.head is not None and self.head >= model.n_heads:
            raise ElimError(
                f"`{option}` {self}: {model.name} has no head {self.head} in a layer",
                f"its heads are 0 to {model.n_heads - 1}",
            )


def component(text: str, option: str) -> Component:
    """Read a component's name.

    Raises:
        ElimError: It is not one; the message names ``option``.
    """
    found = Component.parse(text)
    if found is None:
        raise ElimError(f"`{option}` must name a head or an MLP, got '{text}'", SHAPES)
    return found
