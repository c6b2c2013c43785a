"""Turn parameter values as users write them into the types of a stage's fields."""

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
    """A value for a parameter: lists and mappings as tuples, integers as floats where a number is wanted.

    Raises:
        ElimError: The value is of another type, or not one of the words that the parameter knows.
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
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise ElimError(f"{stage.kind}: {name} must be {WORDS[plain]}, got {_shown(value)}")
    return value


def _frozen(value: Any) -> Any:
    """Lists and mappings of a file as tuples."""
    if isinstance(value, dict):
        return tuple((k, v) for k, v in value.items() if k != "__line__")
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    """A value as the user wrote it, nearly."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
