"""Read and check chain files, with the line of every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from elimtool.errors import ElimError, nearest
from elimtool.files.places import read_with_places


class StageEntry(BaseModel):
    """One stage of a chain file.

    Attributes:
        stage: Kind of stage.
        label: Another name for the stage in this chain; empty = its kind.
        params: Parameters by name, not yet checked against the stage.
        optional: Whether the stage is left out of the chain where it is off.
        line: Line in the file, from 1; 0 = none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    label: str = ""
    optional: bool = False
    params: dict[str, Any] = Field(default_factory=dict)
    line: int = 0

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, value: Any) -> Any:
        """Collect the keys other than ``stage`` and ``label`` as parameters."""
        if isinstance(value, str):
            return {"stage": value}
        if not isinstance(value, dict) or "params" in value:
            return value
        known = {k: v for k, v in value.items() if k in ("stage", "label", "optional")}
        return {**known, "params": {k: v for k, v in value.items() if k not in known}}


class ModelSettings(BaseModel):
    """What an engine reads of the settings that a model ships with.

    Attributes:
        file: Where they are, such as ``generation_config.json``.
        keys: Key there to parameter as in the inline form; an empty text for what the chain lacks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = ""
    keys: dict[str, str] = Field(default_factory=dict)


class Fallback(BaseModel):
    """What an engine sets by itself.

    Attributes:
        where: The stage that must be on.
        without: The stages that must be off.
        set: Parameters that are then set, as in the inline form.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: str
    without: tuple[str, ...]
    set: dict[str, Any]


class ChainFile(BaseModel):
    """A sampler chain as a file describes it.

    Attributes:
        engine: Engine whose rules the chain follows.
        version: Version of the engine that the rules were read from.
        sources: Files and pages where the rules were read.
        limits: The values that the engine accepts, by parameter as in the inline form, see
            ``elimtool.samplers.limits``.
        speculative_limits: The values that it accepts while a draft model proposes tokens.
        fallbacks: Parameters that the engine sets where one stage is on and some others are off.
        model_settings: Where the engine reads settings that a model ships with (``file``), and what its
            ``keys`` set, as in the inline form.
        precision: ``exact`` or ``float32``.
        accumulation: How the engine sums in float32.
        base: Another preset to start from; then ``set`` changes parameters, and there are no ``stages``.
        set: Parameters to change in ``base``, as in the inline form.
        order: Names of the stages of ``base`` in the order that this engine has them; empty for that of
            ``base``.
        stages: First to last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str = ""
    version: str = ""
    sources: tuple[str, ...] = ()
    limits: dict[str, str] = Field(default_factory=dict)
    speculative_limits: dict[str, str] = Field(default_factory=dict)
    fallbacks: tuple[Fallback, ...] = ()
    model_settings: ModelSettings = Field(default_factory=ModelSettings)
    precision: Literal["exact", "float32"] | None = None
    accumulation: Literal["sequential", "torch"] | None = None
    base: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    order: tuple[str, ...] = ()
    stages: tuple[StageEntry, ...] = ()

    @model_validator(mode="after")
    def _one_form(self) -> ChainFile:
        """Require that a file lists stages or changes another chain, not both."""
        if bool(self.base) == bool(self.stages):
            raise ValueError("give either 'stages' or 'base' (with 'set'), one of the two")
        if (self.set or self.order) and not self.base:
            word = "set" if self.set else "order"
            raise ValueError(f"'{word}' changes a chain named by 'base', and there is none")
        return self


def read_chain(path: Path) -> ChainFile:
    """Read a chain file.

    Raises:
        ElimError: The file cannot be read, is not YAML, or does not describe a chain; the message names file
            and line.
    """
    content, places = read_with_places(path)
    if not isinstance(content, dict):
        raise ElimError(f"{path}:1: a chain file must be a mapping with 'stages' or 'base'")
    for key in map(str, content):
        if key not in ChainFile.model_fields:
            hint = nearest(key, tuple(ChainFile.model_fields))
            raise ElimError(f"{places.at((key,))}: unknown key '{key}'", hint)
    try:
        chain = ChainFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ElimError(f"{places.at(first['loc'])}: {where}: {first['msg']}") from error
    lines = [places.line(("stages", index)) for index in range(len(chain.stages))]
    stages = tuple(e.model_copy(update={"line": n}) for e, n in zip(chain.stages, lines, strict=True))
    return chain.model_copy(update={"stages": stages})
