"""Options that change the model while it runs: declared once, and read into interventions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from elimtool.cli.options import option, switch

if TYPE_CHECKING:
    from elimtool.model.interventions import Intervention

PANEL = "Interventions"

AblateNames = Annotated[
    list[str] | None,
    option(
        "--ablate",
        metavar="PART",
        panel=PANEL,
        help="Trace again without a head (17.3) or an MLP (mlp.12); repeatable. Sinks keep it.",
    ),
]
AblateWith = Annotated[
    str,
    option(
        "--ablate-with",
        metavar="WHAT",
        panel=PANEL,
        help="What takes its place: its mean over reference text, zero, or resample from that text.",
    ),
]
ScaleNames = Annotated[
    list[str] | None,
    option(
        "--scale",
        metavar="PART=X",
        panel=PANEL,
        help="Multiply what a head or MLP gives, such as 21.7=2.0 or mlp.12=0.5; repeatable.",
    ),
]
KnockoutNames = Annotated[
    list[str] | None,
    option(
        "--knockout",
        metavar="SPAN@LAYERS",
        panel=PANEL,
        help="Cut attention to a span in some layers, such as France@20-29; repeatable.",
    ),
]
KnockoutFrom = Annotated[
    str,
    option(
        "--knockout-from",
        metavar="WHERE",
        panel=PANEL,
        help="Cut it from the probed position (last) or from all later positions (later).",
    ),
]
PatchFiles = Annotated[
    list[str] | None,
    option(
        "--patch",
        metavar="FILE",
        panel=PANEL,
        help="Put in activations of another run, all or some: FILE@17.3,mlp.12,residual.9:4; repeatable.",
    ),
]
SaveActivations = Annotated[
    Path | None,
    option(
        "--save-activations",
        metavar="FILE",
        panel=PANEL,
        help="Record this prompt's activations for --patch.",
    ),
]
Confirm = Annotated[
    bool,
    switch(
        "--confirm",
        panel=PANEL,
        help="Test the verdicts' culprits by ablation, against 20 random components each.",
    ),
]


def gather(
    ablate: list[str] | None,
    ablate_with: str,
    scale: list[str] | None,
    knockout: list[str] | None,
    knockout_from: str,
    patch: list[str] | None,
    seed: int,
) -> tuple[Intervention, ...]:
    """Read the options, before a model is loaded.

    Raises:
        ElimError: One of them is not valid, or changes the meaning of another that was not given.
    """
    if not (ablate or scale or knockout or patch) and (ablate_with, knockout_from) == ("mean", "last"):
        return ()
    from elimtool.errors import ElimError
    from elimtool.model.interventions import Ablate, Knockout, Patch, Scale

    if ablate_with != "mean" and not ablate:
        raise ElimError(f"--ablate-with {ablate_with} without --ablate does nothing", "say what to ablate")
    if knockout_from != "last" and not knockout:
        raise ElimError(f"--knockout-from {knockout_from} without --knockout does nothing", "name a span")
    return (
        *(Ablate.parse(one, ablate_with, seed) for one in ablate or ()),
        *(Scale.parse(one) for one in scale or ()),
        *(Knockout.parse(one, knockout_from) for one in knockout or ()),
        *(Patch.parse(one) for one in patch or ()),
    )
