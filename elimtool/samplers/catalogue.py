"""Describe stages and presets as plain data, for listings."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.files.plugins import ORIGINS
from elimtool.samplers.presets import ALIASES, preset_names, resolve
from elimtool.samplers.stage import Stage, parameters, plain
from elimtool.samplers.stages import STAGES


@dataclass(frozen=True)
class Parameter:
    """A parameter of a stage.

    Attributes:
        name: Name in chain files.
        default: Default value.
        meaning: What it does, with range and engines.
        aliases: Names that engines use, accepted in inline chains.
    """

    name: str
    default: Any
    meaning: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class StageInfo:
    """A kind of stage.

    Attributes:
        kind: Name in chains.
        role: ``truncate``, ``rescale``, ``shift``, ``select``, ``ban`` or ``require``.
        summary: One sentence.
        description: Formula, unit, off value, from the docstring.
        main: Parameter that ``kind=value`` sets; empty = none.
        unit: Unit of the threshold; empty = none.
        margin_unit: Unit of the margins; empty = margins are null.
        off: Parameters that turn it off; ``None`` = it has to be left out.
        parameters: Parameters in order.
        sources: Papers and engine files.
        plugin: The installed package that brings it, with its version; empty for elimtool's own.
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
    plugin: str = ""


def stage_info(kind: str) -> StageInfo:
    """Describe one stage.

    Raises:
        ElimError: There is no such stage.
    """
    if kind not in STAGES:
        raise ElimError(f"unknown stage '{kind}'", nearest(kind, tuple(STAGES.everything())))
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
        plugin=ORIGINS[stage].distribution if stage in ORIGINS else "",
    )


def _parameters(stage: type[Stage], attributes: str) -> tuple[Parameter, ...]:
    """List the parameters of a stage, with what its docstring says about each."""
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
        for f in parameters(stage)
    )


def stage_infos() -> list[StageInfo]:
    """Describe all stages."""
    return [stage_info(kind) for kind in STAGES.everything()]


def preset_infos() -> list[dict[str, Any]]:
    """Describe all presets, as ``Chain.describe`` does."""
    return [resolve(name).describe() for name in preset_names()]
