"""What there is to choose from: stages and presets described as plain data, for listings."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass, fields
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.samplers.presets import ALIASES, preset_names, resolve
from elimtool.samplers.stage import Stage, plain
from elimtool.samplers.stages import STAGES


@dataclass(frozen=True)
class Parameter:
    """One parameter of a stage.

    Attributes:
        name: Its name in chain files.
        default: Its default.
        meaning: What it does, with range and engines.
        aliases: Names that engines use, accepted in inline chains.
    """

    name: str
    default: Any
    meaning: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class StageInfo:
    """One kind of stage.

    Attributes:
        kind: Its name in chains.
        role: ``truncate``, ``rescale`` or ``shift``.
        summary: One sentence.
        description: Formula, unit, off value, as its documentation has it.
        main: Parameter that ``kind=value`` sets; empty = none.
        unit: Unit of its threshold; empty = none.
        margin_unit: Unit of its margins; empty = null.
        off: Parameters that turn it off; ``None`` = leave it out.
        parameters: In order.
        sources: Papers and engine files.
    """

    kind: str
    role: str
    summary: str
    description: str
    main: str
    unit: str
    margin_unit: str
    off: dict[str, Any] | None
    parameters: tuple[Parameter, ...]
    sources: tuple[str, ...]


def stage_info(kind: str) -> StageInfo:
    """Describe one stage.

    Raises:
        ElimError: There is no such stage.
    """
    if kind not in STAGES:
        raise ElimError(f"unknown stage '{kind}'", nearest(kind, tuple(STAGES)))
    stage = STAGES[kind]
    text, _, attributes = inspect.cleandoc(stage.__doc__ or "").partition("\nAttributes:\n")
    summary, _, description = text.partition("\n\n")
    off = None if stage.off is None else {k: plain(v) for k, v in stage.off.items()}
    return StageInfo(
        kind=kind,
        role=stage.role,
        summary=" ".join(summary.split()),
        description=description.strip(),
        main=stage.main,
        unit=stage.unit,
        margin_unit=stage.margin_unit,
        off=off,
        parameters=_parameters(stage, attributes),
        sources=stage.sources,
    )


def _parameters(stage: type[Stage], attributes: str) -> tuple[Parameter, ...]:
    """The parameters of a stage with what its documentation says of each."""
    meanings: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(attributes).splitlines() if attributes else []:
        if line and not line.startswith(" "):
            name, _, rest = line.partition(":")
            meanings[name] = rest.strip()
        elif name:
            meanings[name] += " " + line.strip()
    return tuple(
        Parameter(
            name=f.name,
            default=None if f.default is MISSING else plain(f.default),
            meaning=meanings.get(f.name, ""),
            aliases=tuple(a for a, target in ALIASES.items() if target == (stage.kind, f.name)),
        )
        for f in fields(stage)
        if f.name != "label"
    )


def stage_infos() -> list[StageInfo]:
    """All stages."""
    return [stage_info(kind) for kind in STAGES]


def preset_infos() -> list[dict[str, Any]]:
    """All presets, as ``Chain.describe`` gives them."""
    return [resolve(name).describe() for name in preset_names()]
