"""Let a command take options that go together as one parameter: a block, a frozen dataclass of options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, get_type_hints


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take blocks: the fields of a parameter of a dataclass type become its options.

    A field may be a block itself.
    """
    # Typer reads the signature: it must see the fields, with their annotations resolved
    declared = signature(command, eval_str=True).parameters.values()
    blocks: dict[str, Any] = {one.name: one.annotation for one in declared if is_dataclass(one.annotation)}

    @wraps(command)
    def run(**given: Any) -> None:
        for name, block in blocks.items():
            given[name] = _filled(block, given)
        command(**given)

    flat: list[Parameter] = []
    for one in declared:
        flat += _options_of(blocks[one.name]) if one.name in blocks else [one]
    run.__signature__ = signature(command).replace(parameters=flat, return_annotation=None)  # type: ignore[attr-defined]
    return run


def names_of(block: Any) -> list[str]:
    """List the parameters of a block, those of its blocks too."""
    return [one.name for one in _options_of(block)]


def _filled(block: Any, given: dict[str, Any]) -> Any:
    """Make a block of the values of its options, which are taken out of ``given``."""
    hints = get_type_hints(block)
    return block(
        **{
            one.name: _filled(kind, given) if is_dataclass(kind := hints[one.name]) else given.pop(one.name)
            for one in fields(block)
        }
    )


def _options_of(block: Any) -> list[Parameter]:
    hints = get_type_hints(block, include_extras=True)
    found: list[Parameter] = []
    for one in fields(block):
        kind = hints[one.name]
        if is_dataclass(kind):
            found += _options_of(kind)
        else:
            found.append(Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=kind))
    return found
