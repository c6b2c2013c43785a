"""Convert parameter values, as users write them, to the types of a stage's fields."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from elimtool.errors import ElimError, nearest
from elimtool.samplers.stage import Stage

WORDS: dict[Any, str] = {
    float: "a number",
    int: "an integer",
    bool: "true or false",
    tuple: "a list",
    str: "text",
}


def fitted(stage: type[Stage], name: str, value: Any) -> Any:
    """Convert a value for a parameter: lists and mappings to tuples, integers to floats where needed.

    Raises:
        ElimError: The value has another type, or is not one of the parameter's words.
    """
    value = _frozen(value)
    wanted = get_type_hints(stage)[name]
    options = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    if value is None and NoneType in options:
        return None
    option = next(o for o in options if o is not NoneType)
    if get_origin(option) is Literal:
        if value not in get_args(option):
            hint = nearest(str(value), get_args(option))
            raise ElimError(f"{stage.kind}: {name} = {_shown(value)} is not valid", hint)
        return value
    plain = get_origin(option) or option
    if plain is tuple and get_args(option)[:1] == (int,) and isinstance(value, int) and value is not True:
        return (value,)  # one token id
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise ElimError(f"{stage.kind}: {name} must be {WORDS[plain]}, got {_shown(value)}")
    return value


def _frozen(value: Any) -> Any:
    """Convert lists and mappings to tuples: stages are frozen and must be hashable."""
    if isinstance(value, dict):
        return tuple(value.items())
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    """Show a value much as the user wrote it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
