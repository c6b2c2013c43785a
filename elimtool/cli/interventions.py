"""Declare the options that change the model while it runs, and read them into interventions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from elimtool.cli.options import option, switch
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.model.interventions import Intervention
    from elimtool.prompts.prompt import Prompt

PANEL = "Interventions"

SaveActivations = Annotated[
    Path | None,
    option(
        "--save-activations",
        metavar="FILE",
        panel=PANEL,
        help="Record this prompt's activations for --patch; a file that is there is replaced only with"
        " --overwrite.",
    ),
]
Confirm = Annotated[
    bool,
    switch(
        "--confirm",
        panel=PANEL,
        help="Test the verdicts' culprits by ablation, against 20 random components each, and cut the query"
        " off from the part that wrote most, against random tokens.",
    ),
]


@dataclass(frozen=True)
class InterventionOptions:
    """Changes to the model while it runs."""

    ablate: Annotated[
        list[str] | None,
        option(
            "--ablate",
            metavar="PART",
            panel=PANEL,
            help="Trace again without a head (17.3, L17H3), an MLP (mlp.12) or an expert (expert.12.7,"
            " L12E7); repeatable. Sinks keep it.",
        ),
    ] = None
    ablate_with: Annotated[
        str,
        option(
            "--ablate-with",
            metavar="WHAT",
            panel=PANEL,
            help="What takes its place: its mean over reference text, zero, or resample from that text. An"
            " expert's is zero, and the router chooses as before.",
        ),
    ] = "mean"
    scale: Annotated[
        list[str] | None,
        option(
            "--scale",
            metavar="PART=X",
            panel=PANEL,
            help="Multiply the output of a head or MLP, such as 21.7=2.0 or mlp.12=0.5; repeatable.",
        ),
    ] = None
    knockout: Annotated[
        list[str] | None,
        option(
            "--knockout",
            metavar="SPAN@LAYERS",
            panel=PANEL,
            help="Cut attention to a span, or a part of the text, in some layers: France@20-29; repeatable.",
        ),
    ] = None
    knockout_from: Annotated[
        str,
        option(
            "--knockout-from",
            metavar="WHERE",
            panel=PANEL,
            help="Cut it from the probed position (last) or from all later positions (later).",
        ),
    ] = "last"
    patch: Annotated[
        list[str] | None,
        option(
            "--patch",
            metavar="FILE",
            panel=PANEL,
            help="Insert activations of another run, all or some: FILE@17.3,mlp.12,residual.9:4; repeatable.",
        ),
    ] = None

    def check_prompt(self, prompt: Prompt) -> None:
        """Refuse, before a model is loaded, a plain text that lacks what an option names.

        Raises:
            ElimError: It has neither such a span nor such a text.
        """
        from elimtool.model.interventions import Knockout

        for one in self.knockout or ():
            Knockout.parse(one, self.knockout_from).check_prompt(prompt)

    def made(self, seed: int) -> tuple[Intervention, ...]:
        """Read the options into interventions, before a model is loaded.

        Args:
            seed: Seed for choosing the replacement of a resampled component.

        Raises:
            ElimError: An option is not valid, or modifies another one that was not given.
        """
        if self == InterventionOptions():
            return ()
        from elimtool.model.interventions import Ablate, Knockout, Patch, Scale

        if self.ablate_with != "mean" and not self.ablate:
            raise ElimError(
                f"--ablate-with {self.ablate_with} without --ablate does nothing", "say what to ablate"
            )
        if self.knockout_from != "last" and not self.knockout:
            raise ElimError(
                f"--knockout-from {self.knockout_from} without --knockout does nothing", "name a span"
            )
        return (
            *(Ablate.parse(one, self.ablate_with, seed) for one in self.ablate or ()),
            *(Scale.parse(one) for one in self.scale or ()),
            *(Knockout.parse(one, self.knockout_from) for one in self.knockout or ()),
            *(Patch.parse(one) for one in self.patch or ()),
        )
