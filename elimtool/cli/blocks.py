"""Let a command take options that go together as one parameter: a block, a frozen dataclass of options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, get_type_hints


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take blocks: the fields of a parameter of a dataclass type become its options."""
    # Typer reads the signature: it must see the fields, with their annotations resolved
    declared = signature(command, eval_str=True).parameters.values()
    blocks: dict[str, Any] = {one.name: one.annotation for one in declared if is_dataclass(one.annotation)}

    @wraps(command)
    def run(**given: Any) -> None:
        for name, block in blocks.items():
            given[name] = block(**{field.name: given.pop(field.name) for field in fields(block)})
        command(**given)

    flat: list[Parameter] = []
    for one in declared:
        flat += _options_of(blocks[one.name]) if one.name in blocks else [one]
    run.__signature__ = signature(command).replace(parameters=flat, return_annotation=None)  # type: ignore[attr-defined]
    return run


def _options_of(block: Any) -> list[Parameter]:
    hints = get_type_hints(block, include_extras=True)
    return [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(block)
    ]
