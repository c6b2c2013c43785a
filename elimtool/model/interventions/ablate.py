"""Ablate or scale a head, an MLP or an expert: change its output at every position but the sinks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch

from elimtool.errors import ElimError, checked_fields, nearest
from elimtool.model.interventions.component import Component, component
from elimtool.model.interventions.edits import Change, Cut, outside_sinks
from elimtool.prompts.component import parse_expert

if TYPE_CHECKING:
    from elimtool.model.interventions.reference import ReferenceActivations
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded

How = Literal["mean", "zero", "resample"]
HOWS: tuple[str, ...] = get_args(How)

_ABLATE = re.compile(r"(?:ablate )?(.+?)(?: (mean|zero|resample)(?: seed ([0-9]{1,18}))?)?")
_SCALE = re.compile(r"(?:scale )?([^=]+)=(.+)")


@dataclass(frozen=True, slots=True)
class _OneComponent:
    """An intervention on one component, at every position but the attention sinks."""

    component: str

    word: ClassVar[str]
    extends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "component", str(self.target))

    @property
    def target(self) -> Component:
        """The component."""
        return component(self.component, self.word)

    def check(self, model: Model) -> None:
        """Refuse a component that the model does not have."""
        self.target.check(model, self.word)

    def fits(self, one: Encoded) -> None:
        """Accept any prompt."""

    def note(self, one: Encoded) -> str:
        """Have nothing to say."""
        del one
        return ""


@checked_fields
@dataclass(frozen=True, slots=True)
class Ablate(_OneComponent):
    """Replace a component's output by something that does not depend on the prompt.

    A head is replaced where it enters the output projection, an MLP where it is added to the residual stream.
    An expert of a mixture has its part of the layer's sum set to 0: the router chooses as before, no other
    expert takes its place, and the weights of the others stay. Positions of attention sinks are not changed.

    Attributes:
        component: ``17.3`` (layer 17, head 3), ``mlp.12`` or ``expert.12.7``.
        how: ``mean``: its mean over reference text (the package's own, see ``elimtool.engine.reference``).
            ``resample``: at each position, its output at some position of that text. ``zero``: 0.
        seed: Seed for the positions that ``resample`` takes.
    """

    how: str = "mean"
    seed: int = 0

    word: ClassVar[str] = "ablate"

    def __post_init__(self) -> None:
        _OneComponent.__post_init__(self)  # super() fails in a dataclass with slots
        if self.how not in HOWS:
            raise ElimError(f"`how` '{self.how}' is not valid", nearest(self.how, HOWS))
        if self.target.expert is not None and self.how != "zero":
            raise ElimError(
                f"`ablate` {self.component} {self.how}: an expert writes only where it is chosen, so its"
                " output elsewhere cannot take its place",
                "an expert is ablated with zero: leave `how` out",
            )

    @classmethod
    def parse(cls, text: str, how: str = "mean", seed: int = 0) -> Ablate:
        """Read ``17.3``, ``mlp.12``, ``expert.12.7`` or the canonical form.

        ``how`` and ``seed`` are for a text that has none. For an expert ``mean``, the default of the others,
        stands for ``zero``.

        Raises:
            ElimError: The text has none of these forms.
        """
        found = _ABLATE.fullmatch(text.strip())
        named, own, own_seed = found.groups() if found else (text, None, None)
        if own is None and how == "mean" and parse_expert(named):
            how = "zero"
        return cls(named, own or how, int(own_seed) if own_seed else seed)

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.how == "resample" else ""
        return f"ablate {self.component} {self.how}{seed}"

    @property
    def needs_reference(self) -> bool:
        """Whether activations of reference text are put in."""
        return self.how != "zero"

    def edits(
        self, one: Encoded, n_layers: int, reference: ReferenceActivations | None
    ) -> list[Change | Cut]:
        """Replace the component's values at every position but the sinks."""
        del n_layers
        site, head = self.target.site, self.target.number
        positions = outside_sinks(one)
        if not self.needs_reference:
            return [Change(site, head, positions, factor=0.0)]
        if reference is None:
            raise ElimError(f"{self} needs activations of reference text", "pass `reference`")
        if self.how == "mean":
            return [Change(site, head, positions, reference.mean(site, head, len(positions)))]
        values = reference.drawn(site, head, torch.tensor(positions, dtype=torch.long), self.seed)
        return [Change(site, head, positions, values)]


@checked_fields
@dataclass(frozen=True, slots=True)
class Scale(_OneComponent):
    """Multiply a component's output, at the same places and positions as ``Ablate``.

    Attributes:
        component: ``21.7``, ``mlp.12`` or ``expert.12.7``.
        factor: 1 changes nothing, 0 is zero ablation, a negative factor reverses the output.
    """

    factor: float

    word: ClassVar[str] = "scale"
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _OneComponent.__post_init__(self)
        object.__setattr__(self, "factor", float(self.factor))
        if not isfinite(self.factor):
            raise ElimError(f"`scale` {self.component}={self.factor}: the factor must be finite")

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``21.7=2.0``, ``mlp.12=0.5`` or the canonical form.

        Raises:
            ElimError: The text has none of these forms.
        """
        found = _SCALE.fullmatch(text.strip())
        try:
            factor = float(found[2]) if found else None
        except ValueError:
            factor = None
        if found is None or factor is None:
            raise ElimError(
                f"`scale` must be COMPONENT=FACTOR, got '{text}'", "such as 21.7=2.0 or mlp.12=0.5"
            )
        return cls(found[1], factor)

    def __str__(self) -> str:
        return f"scale {self.component}={self.factor!r}"

    def edits(
        self, one: Encoded, n_layers: int, reference: ReferenceActivations | None
    ) -> list[Change | Cut]:
        """Multiply the component's values at every position but the sinks."""
        del n_layers, reference
        return [Change(self.target.site, self.target.number, outside_sinks(one), factor=self.factor)]
