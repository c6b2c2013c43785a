"""Take the options of a command from a YAML file: every error names the file and the line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from elimtool.cli.naming import names_in
from elimtool.errors import ElimError, nearest

if TYPE_CHECKING:
    from elimtool.files.places import Places


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take defaults from a config file, by option name; flags and the environment override them.

    Raises:
        ElimError: The file is not a mapping, a key is no option, or a value is not of the option's kind.
    """
    if path is None:
        return None
    from elimtool.files.places import read_with_places

    given, places = read_with_places(path)
    if not isinstance(given, dict):
        raise ElimError(
            f"{path}: a config file must be a mapping of option names to values",
            "write for example: model: NAME",
        )
    options: dict[str, Any] = {str(one.name): one for one in context.command.params}
    for name in ("config", "prompt", "prompts"):
        options.pop(name, None)
    defaults: dict[str, Any] = {}
    where: dict[str, str] = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name not in options:
            shown = tuple(sorted(option.replace("_", "-") for option in options))
            raise ElimError(f"{places.at((str(key),))}: unknown key '{key}'", nearest(str(key), shown))
        defaults[name] = _checked(options[name], value, str(key), places)
        where[name] = places.at((str(key),))
    context.with_resource(_placed(context, defaults, where))
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


@contextmanager
def _placed(context: typer.Context, defaults: Mapping[str, Any], where: Mapping[str, str]) -> Iterator[None]:
    """Put the place of a value in front of what the command has against it, if no flag overrode the value."""
    try:
        yield
    except ElimError as error:
        for name, place in where.items():
            listed = defaults[name] if isinstance(defaults[name], list) else [defaults[name]]
            quoted = any(isinstance(one, str) and one and f"'{one}'" in error.message for one in listed)
            source = context.get_parameter_source(name)
            taken = source is not None and source.name == "DEFAULT_MAP"
            if taken and (quoted or name in names_in(error.message)):
                raise ElimError(f"{place}: {error.message}", error.hint, error.exit_code) from error
        raise


def _checked(option: Any, value: Any, key: str, places: Places) -> Any:
    """Check one value here, as later nobody knows the file; a single one may stand for a list of one."""
    several = option.multiple and isinstance(value, list)
    for at, one in enumerate(value if several else [value]):
        if one is not None and (fault := _fault(option, one)):
            raise ElimError(f"{places.at((key, at) if several else (key,))}: '{key}' {fault}", _HINT)
    return [value] if option.multiple and not several and value is not None else value


_HINT = "write it as the command line would have it; --help lists the options"


def _fault(option: Any, value: Any) -> str:
    """Say what is wrong with the kind of a value: without this, anything would be taken for a text."""
    if isinstance(value, list | dict):
        return "takes one value, not a list or a mapping"
    kind = option.bare_type()
    if option.is_flag:
        return "" if isinstance(value, bool) else f"must be true or false, got {value!r}"
    if kind == "int":
        return "" if type(value) is int else f"must be a whole number, got {value!r}"
    if kind == "float":
        return "" if type(value) in (int, float) else f"must be a number, got {value!r}"
    fits = isinstance(value, str) or type(value) in (int, float)
    return "" if fits else f"must be a text, got {value}: put it in quotes"
