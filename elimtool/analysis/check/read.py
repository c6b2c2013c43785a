"""Read and validate a check file; every error names file, line, key and the nearest valid word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from elimtool.analysis.check.doubts import Doubts
from elimtool.analysis.check.metrics import SHORT, CheckMetric, Others, columns, find
from elimtool.analysis.check.spec import Check, CheckFile, Condition, Defaults, ModelSpec, Select
from elimtool.errors import ElimError, nearest
from elimtool.files.places import Key, Places, read_with_places

_RECORDS: Mapping[str, type[BaseModel]] = {
    "model": ModelSpec,
    "defaults": Defaults,
    "checks": Check,
    "select": Select,
    "where": Condition,
}


@dataclass(frozen=True, slots=True)
class Checks:
    """A check file that can be used.

    Attributes:
        path: The file.
        file: Its contents.
        metrics: The metric of every check, by the check's id.
        places: Lines of the file's keys and values.
    """

    path: Path
    file: CheckFile
    metrics: Mapping[str, CheckMetric]
    places: Places

    def line(self, check: Check) -> int:
        """Find the line of a check in the file."""
        return self.places.line(("checks", self.file.checks.index(check)))

    def beside(self, name: str) -> Path:
        """Resolve a path of the file, which is relative to the file's folder."""
        return self.path.parent / Path(name).expanduser()

    @property
    def baseline(self) -> Path | None:
        """File of the baseline, if the file names one."""
        return self.beside(self.file.baseline) if self.file.baseline else None


def read_checks(
    path: str | Path, *, model_sampling: bool | None = None, others: Others | None = None
) -> Checks:
    """Read a check file and validate all that does not need a run.

    Args:
        path: The file.
        model_sampling: Instead of what the file says; ``None`` leaves it.
        others: Finds tables that plugins fill.

    Raises:
        ElimError: The file cannot be read, or something in it is invalid; the message names file, line and
            key, and the hint the nearest valid word.
    """
    path = Path(path)
    content, places = read_with_places(path)
    if not isinstance(content, dict):
        raise ElimError(
            f"{path}:1: a check file is a mapping with the keys version, prompts and checks",
            "see `schema` of elimtool check",
        )
    _heads_as_written(content, places)
    try:
        file = CheckFile.model_validate(content)
    except ValidationError as error:
        raise _first(error.errors(), content, places) from error
    if model_sampling is not None:
        file = file.model_copy(update={"model_sampling": model_sampling})
    _refuse_repeats(file, places)
    metrics = {}
    for index, check in enumerate(file.checks):
        try:
            metrics[check.id] = find(check.metric, others)
        except ElimError as error:
            raise ElimError(
                f"{places.at(('checks', index, 'metric'))}: {error.message}", error.hint
            ) from error
        Doubts(check, metrics[check.id], places, ("checks", index)).raise_first(file)
    return Checks(path, file, metrics, places)


def json_schema() -> dict[str, Any]:
    """Make the JSON Schema of check files, for editors; it lists the metrics by name."""
    schema = CheckFile.model_json_schema()
    schema["title"] = "elimtool check file"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$defs"]["Check"]["properties"]["metric"]["enum"] = [*SHORT, *sorted(columns())]
    return schema


def _heads_as_written(content: dict[str, Any], places: Places) -> None:
    """Restore heads, written layer.head: YAML reads 17.10 as the number 17.1."""
    model = content.get("model")
    if isinstance(model, dict) and isinstance(model.get("ablate"), list):
        for index, one in enumerate(model["ablate"]):
            if isinstance(one, float):
                model["ablate"][index] = places.texts[("model", "ablate", index)]


def _first(errors: list[ErrorDetails], content: Any, places: Places) -> ElimError:
    """Put the first error of a file, from top to bottom, into plain words."""
    located = [(_existing(error["loc"], places), error) for error in errors]
    key, error = min(located, key=lambda one: places.line(one[0]))
    where = ".".join(str(part) for part in key)
    kind, last = error["type"], error["loc"][-1]
    if kind == "extra_forbidden":
        valid = tuple(_names(_record(key[:-1])))
        inside = f" in {'.'.join(str(part) for part in key[:-1])}" if len(key) > 1 else ""
        return ElimError(f"{places.at(key)}: unknown key '{last}'{inside}", nearest(str(last), valid))
    if kind == "missing":
        owner = _owner(key, content)
        return ElimError(
            f"{places.at(key)}: {owner} has no '{last}'", "add it; see `schema` of elimtool check"
        )
    if kind == "literal_error":
        valid = tuple(
            word.strip("' ") for word in str(error["ctx"]["expected"]).replace(" or ", ",").split(",")
        )
        return ElimError(
            f"{places.at(key)}: {where}: {error['input']!r} is not valid", nearest(str(error["input"]), valid)
        )
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "string_type" and not isinstance(error["input"], (dict, list)):
        return ElimError(
            f"{places.at(key)}: {where}: must be a text, got {error['input']!r}", "put it in quotes"
        )
    if message != error["msg"] and not error["msg"].startswith("Value error"):
        message = f"must be {message}, got {error['input']!r}"
    said, _, hint = message.partition(": ")
    return ElimError(f"{places.at(key)}: {where}: {said}", hint)


def _existing(location: tuple[int | str, ...], places: Places) -> Key:
    """Cut a location down to what is in the file; pydantic adds names of union members."""
    key: Key = ()
    for part in location:
        if (*key, part) not in places.lines:
            break
        key = (*key, part)
    return key


def _record(key: Key) -> type[BaseModel]:
    words = [part for part in key if isinstance(part, str) and part in _RECORDS]
    return _RECORDS[words[-1]] if words else CheckFile


def _names(record: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in record.model_fields.items()]


def _owner(key: Key, content: Any) -> str:
    """Name what a key is missing from."""
    if len(key) >= 2 and key[0] == "checks" and isinstance(key[1], int):
        given = content["checks"][key[1]]
        name = given.get("id") if isinstance(given, dict) else None
        return f"check '{name}'" if name else f"check number {key[1] + 1}"
    return ".".join(str(part) for part in key) or "the file"


def _refuse_repeats(file: CheckFile, places: Places) -> None:
    seen: dict[str, int] = {}
    for index, check in enumerate(file.checks):
        line = places.line(("checks", index))
        if check.id in seen:
            raise ElimError(
                f"{places.path}:{line}: check id '{check.id}' is taken by line {seen[check.id]}",
                "give each check an id of its own",
            )
        seen[check.id] = line
