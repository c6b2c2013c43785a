"""Options of an attribution: methods, spans, and limits on their cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from elimtool.errors import ElimError, checked_fields, nearest
from elimtool.model.spans import UNITS
from elimtool.prompts.position import Position, check_position
from elimtool.samplers import Chain, Stage, resolve

METHODS = (
    "leave-one-out",
    "leave-one-out-masked",
    "knockout",
    "knockout-later",
    "gradient-x-input",
    "integrated-gradients",
    "contextcite",
)
DEFAULT_METHODS = ("leave-one-out", "leave-one-out-masked", "contextcite")
"""Both kinds of ablation and a surrogate: they find the answer's span in some dozen passes."""
CUTS = ("leave-one-out-masked", "knockout", "knockout-later")
"""Methods that cut attention, so that a model without attention weights cannot be asked."""
GRADIENTS = ("gradient-x-input", "integrated-gradients")
"""Methods that need float32 or float64."""
FEWEST = 16
"""Fewest ablations to which a surrogate is fitted: four folds of four."""


@checked_fields
@dataclass(frozen=True, slots=True)
class AttributeOptions:
    """Options of an attribution, the same for every prompt of a run.

    Attributes:
        methods: Names of ``METHODS``; ``None`` for ``DEFAULT_METHODS``.
        units: What spans are: ``auto`` (the prompt's named spans, else chat roles, else tokens of short
            prompts, else sentences), ``spans``, ``roles``, ``sentences`` or ``tokens``.
        position: Token whose prediction is attributed: ``last`` or an index. Later ones are not run.
        sinks: Attention-sink rule as for a trace; sinks stay in place whatever is ablated.
        target_space: ``auto`` or ``exact``, see ``elimtool.model.targets.spaced``.
        windows: Number of layer windows to report knockouts for, besides all layers.
        ablations: Number of random ablations that contextcite fits.
        steps: Most gradients that integrated gradients take for one target.
        generate: Tokens to write first for a position among written tokens; 0 for as many as it needs.
        chain: Sampler chain to write through: as in ``TraceOptions.samplers``.
        model_sampling: Whether a preset has the model's own settings laid over it, as for a trace.
        seed: Seed for drawing the random ablations, and what is written.
        errors: ``raise`` the first bad prompt, or keep it as a ``row`` with its error.
    """

    methods: tuple[str, ...] | None = None
    units: str = "auto"
    position: Position = "last"
    sinks: str = "auto"
    target_space: Literal["auto", "exact"] = "auto"
    windows: int = 5
    ablations: int = 64
    steps: int = 512
    generate: int = 0
    chain: str | Chain | Stage = "llama.cpp"
    model_sampling: bool = True
    seed: int = 0
    errors: Literal["raise", "row"] = "raise"

    def __post_init__(self) -> None:
        for name in self.methods or ():
            if name not in METHODS:
                raise ElimError(f"`methods` '{name}' is not known", nearest(name, METHODS))
        if self.methods == ():
            raise ElimError("`methods` names no method", nearest("", METHODS))
        if self.units not in UNITS:
            raise ElimError(f"`units` '{self.units}' is not valid", nearest(self.units, UNITS))
        places = check_position(self.position, several=False)
        if self.generate < 0 or (self.generate and not places.written):
            raise ElimError(
                f"`generate` must be a number of tokens for a position among them, got {self.generate}",
                "name the token to attribute, such as `position='written:3'`",
            )
        resolve(self.chain)
        for name, least in (("windows", 1), ("ablations", FEWEST), ("steps", 24)):
            if getattr(self, name) < least:
                raise ElimError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
