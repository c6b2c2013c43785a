"""Ablation and scaling: a head's or MLP's output replaced or multiplied at every position but the sinks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch

from elimtool.errors import ElimError, nearest
from elimtool.model.interventions.component import Component, component
from elimtool.model.interventions.edits import Change, Cut, Site, outside_sinks

if TYPE_CHECKING:
    from elimtool.model.interventions.reference import ReferenceActivations
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded

How = Literal["mean", "zero", "resample"]
HOWS: tuple[str, ...] = get_args(How)

_ABLATE = re.compile(r"(?:ablate )?(.+?)(?: (mean|zero|resample)(?: seed ([0-9]{1,18}))?)?")
_SCALE = re.compile(r"(?:scale )?([^=]+)=(.+)")


@dataclass(frozen=True, slots=True)
class Ablate:
    """Replace what a component gives by something that does not depend on the prompt.

    A head is replaced where it enters the output projection, an MLP where it is added to the residual stream.
    Positions of the attention sinks are left as they are.

    Attributes:
        component: ``17.3`` (layer 17, head 3) or ``mlp.12``.
        how: ``mean``: its mean over reference text (the package's own, see ``calibrate.reference``).
            ``resample``: at each position, what it gave at some position of that text. ``zero``: 0.
        seed: Which positions ``resample`` takes.
    """

    component: str
    how: str = "mean"
    seed: int = 0

    extends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "component", str(component(self.component, "ablate")))
        if self.how not in HOWS:
            raise ElimError(f"`how` '{self.how}' is not valid", nearest(self.how, HOWS))

    @classmethod
    def parse(cls, text: str, how: str = "mean", seed: int = 0) -> Ablate:
        """Read ``17.3``, ``mlp.12`` or the canonical form; ``how`` and ``seed`` where the text has none.

        Raises:
            ElimError: No such form.
        """
        found = _ABLATE.fullmatch(text.strip())
        named, own, own_seed = found.groups() if found else (text, None, None)
        return cls(named, own or how, int(own_seed) if own_seed else seed)

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.how == "resample" else ""
        return f"ablate {self.component} {self.how}{seed}"

    @property
    def target(self) -> Component:
        """The component."""
        return component(self.component, "ablate")

    @property
    def needs_reference(self) -> bool:
        """Whether activations of reference text take its place."""
        return self.how != "zero"

    def check(self, model: Model) -> None:
        """Refuse a component that the model does not have."""
        self.target.check(model, "ablate")

    def fits(self, one: Encoded) -> None:
        """Any prompt will do."""

    def edits(
        self, one: Encoded, n_layers: int, reference: ReferenceActivations | None
    ) -> list[Change | Cut]:
        """The component's values at every position but the sinks."""
        del n_layers
        site, head = _site(self.target)
        positions = outside_sinks(one)
        if not self.needs_reference:
            return [Change(site, head, positions, factor=0.0)]
        if reference is None:
            raise ElimError(f"{self} needs activations of reference text", "pass `reference`")
        if self.how == "mean":
            return [Change(site, head, positions, reference.mean(site, head, len(positions)))]
        values = reference.drawn(site, head, torch.tensor(positions, dtype=torch.long), self.seed)
        return [Change(site, head, positions, values)]

    def note(self, one: Encoded) -> str:
        """Nothing to say."""
        del one
        return ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiply what a component gives; where and at which positions as ``Ablate``.

    Attributes:
        component: ``21.7`` or ``mlp.12``.
        factor: 1 changes nothing, 0 is zero ablation, a negative factor turns it round.
    """

    component: str
    factor: float

    needs_reference: ClassVar[bool] = False
    extends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "component", str(component(self.component, "scale")))
        object.__setattr__(self, "factor", float(self.factor))
        if not isfinite(self.factor):
            raise ElimError(f"`scale` {self.component}={self.factor}: the factor must be finite")

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``21.7=2.0``, ``mlp.12=0.5`` or the canonical form.

        Raises:
            ElimError: No such form.
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

    @property
    def target(self) -> Component:
        """The component."""
        return component(self.component, "scale")

    def check(self, model: Model) -> None:
        """Refuse a component that the model does not have."""
        self.target.check(model, "scale")

    def fits(self, one: Encoded) -> None:
        """Any prompt will do."""

    def edits(
        self, one: Encoded, n_layers: int, reference: ReferenceActivations | None
    ) -> list[Change | Cut]:
        """The component's factor at every position but the sinks."""
        del n_layers, reference
        site, head = _site(self.target)
        return [Change(site, head, outside_sinks(one), factor=self.factor)]

    def note(self, one: Encoded) -> str:
        """Nothing to say."""
        del one
        return ""


def _site(target: Component) -> tuple[Site, int | None]:
    return Site(target.layer, "mlp" if target.head is None else "heads"), target.head
