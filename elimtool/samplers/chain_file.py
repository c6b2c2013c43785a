"""Read chain files: a checked description of a sampler chain, with the line of every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from elimtool.errors import ElimError, nearest

LINE = "__line__"


class StageEntry(BaseModel):
    """One stage of a chain file: its kind, a label if wanted, and its parameters.

    Attributes:
        stage: Kind of stage.
        label: Another name for it in this chain; empty = its kind.
        params: Parameters by name, not yet checked against the stage.
        line: Line in the file, from 1; 0 = none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    label: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    line: int = 0

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, value: Any) -> Any:
        """Every key that is not ``stage`` or ``label`` is a parameter."""
        if isinstance(value, str):
            return {"stage": value}
        if not isinstance(value, dict) or "params" in value:
            return value
        known = {k: v for k, v in value.items() if k in ("stage", "label")}
        rest = {k: v for k, v in value.items() if k not in (*known, LINE)}
        return {**known, "params": rest, "line": value.get(LINE, 0)}


class ChainFile(BaseModel):
    """A sampler chain as a file describes it.

    Attributes:
        engine: Engine whose rules the chain follows.
        version: Version of the engine that the rules were read from.
        sources: Files and pages where the rules were read.
        precision: ``exact`` or ``float32``.
        accumulation: How the engine sums in float32.
        base: Another preset to start from; then ``set`` changes parameters, and there are no ``stages``.
        set: Parameters to change in ``base``, as in the inline form.
        stages: First to last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str = ""
    version: str = ""
    sources: tuple[str, ...] = ()
    precision: Literal["exact", "float32"] | None = None
    accumulation: Literal["sequential", "torch"] | None = None
    base: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    stages: tuple[StageEntry, ...] = ()

    @model_validator(mode="after")
    def _one_form(self) -> ChainFile:
        """A file lists stages or changes another chain, not both."""
        if bool(self.base) == bool(self.stages):
            raise ValueError("give either 'stages' or 'base' (with 'set'), one of the two")
        if self.set and not self.base:
            raise ValueError("'set' changes a chain named by 'base', and there is none")
        return self


class _Loader(yaml.SafeLoader):
    """YAML that remembers the line of every mapping and refuses a key given twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Build a mapping with its line."""
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in result:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{key}' is given twice", key_node.start_mark
            )
        result[key] = loader.construct_object(value_node, deep=True)
    result[LINE] = node.start_mark.line + 1
    return result


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_chain(path: Path) -> ChainFile:
    """Read a chain file.

    Raises:
        ElimError: The file cannot be read, is not YAML, or does not describe a chain; the message names file
            and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ElimError(f"chain file {path} cannot be read: {error}") from error
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ElimError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ElimError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ElimError(f"{path}:1: a chain file must be a mapping with 'stages' or 'base'")
    return _checked(content, path, text)


def _checked(content: dict[Any, Any], path: Path, text: str) -> ChainFile:
    """Check the content of a file, or say what is wrong on which line."""
    content.pop(LINE)
    if isinstance(content.get("set"), dict):
        content["set"].pop(LINE)
    for key in content:
        if key not in ChainFile.model_fields:
            line = _line_of(text, str(key))
            raise ElimError(
                f"{path}:{line}: unknown key '{key}'", nearest(str(key), tuple(ChainFile.model_fields))
            )
    try:
        return ChainFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ElimError(f"{path}:{_place(first['loc'], content, text)}: {where}: {first['msg']}") from error


def _place(location: tuple[int | str, ...], content: dict[Any, Any], text: str) -> int:
    """Line of the part of a file that a validation error names."""
    if len(location) > 1 and location[0] == "stages" and isinstance(location[1], int):
        entry = content["stages"][location[1]]
        return int(entry.get(LINE, 1)) if isinstance(entry, dict) else _line_of(text, "stages")
    return _line_of(text, str(location[0])) if location else 1


def _line_of(text: str, key: str) -> int:
    """Line of a top-level key."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip("\"'").startswith(f"{key}:") or line.startswith((f'"{key}"', f"'{key}'")):
            return number
    return 1
