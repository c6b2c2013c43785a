"""Define what interventions are made of: values to put or scale at a site, and attention edges to cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from elimtool.model.interventions.reference import ReferenceActivations
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded

Kind = Literal["heads", "attention", "mlp", "residual", "experts"]


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """A place in the model whose value can be read and replaced.

    Attributes:
        layer: Block, from 0; -1 with ``residual`` is the embedding.
        kind: ``heads``: the output projection's input, heads side by side. ``attention``, ``mlp``: their
            updates to the residual stream, after the norm that some families put there. ``residual``: the
            residual stream after the block. ``experts``: the weights of the chosen experts of a mixture,
            whose choice stays as it is.
    """

    layer: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Change:
    """New values at some positions of one row, of one head or expert or of everything at the site.

    Attributes:
        site: The place.
        head: Head of a ``heads`` site, or expert of an ``experts`` site, which can only be scaled; ``None``
            for all of the site.
        positions: Token indices.
        values: New values; ``None`` to scale.
        factor: Factor to scale with where there are no values.
    """

    site: Site
    head: int | None
    positions: tuple[int, ...]
    values: Float[Tensor, "positions size"] | None = None
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Cut:
    """Attention edges that a layer must not use: from each query to each key before it, not to itself."""

    layer: int
    queries: tuple[int, ...]
    keys: tuple[int, ...]


@runtime_checkable
@runtime_checkable
class Intervention(Protocol):
    """A change made to a model while it runs, the same for every prompt of a run.

    Its ``str`` is the canonical form, which ``parse`` reads back.
    """

    @property
    def needs_reference(self) -> bool:
        """Whether it puts in activations of reference text."""

    @property
    def extends(self) -> bool:
        """Whether it means the same for the prompt with more tokens after it."""

    def check(self, model: Model) -> None:
        """Refuse a model on which it cannot act.

        Raises:
            ElimError: It cannot act; the message says what the model has instead.
        """

    def fits(self, one: Encoded) -> None:
        """Refuse a prompt that lacks what it names.

        Raises:
            ElimError: It does not fit; the message says what the prompt has instead.
        """

    def edits(
        self, one: Encoded, n_layers: int, reference: ReferenceActivations | None
    ) -> list[Change | Cut]:
        """List its changes to one prompt; raises as ``fits`` where it does not fit."""

    def note(self, one: Encoded) -> str:
        """Say what the user should know about it on this prompt; empty for nothing."""


def outside_sinks(one: Encoded) -> tuple[int, ...]:
    """List the positions at which component interventions act: all but the attention sinks.

    A component's output at a sink is unlike its output elsewhere, and later layers depend on it: without it
    the model breaks, whatever the component does for the prompt.
    """
    return tuple(i for i in range(len(one.token_ids)) if i not in one.sinks)
