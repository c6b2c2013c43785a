"""Write the running command anew, or another one with the same options, as a user would type it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import typer

from elimtool.cli.options import given_from


def typed(
    context: typer.Context, command: str | None = None, *more: str, without: Collection[str] = ()
) -> list[str]:
    """Return the arguments of a command line with what was typed in this one.

    What comes from the environment or a config file holds for the other command too, and is left out.

    Args:
        context: Of the running command.
        command: Name of the command to write, which gets the options that it knows; None for the running one.
        more: Arguments to add at the end.
        without: Names of parameters to leave out.
    """
    name = command or str(context.info_name)
    other = context.command if command is None else context.parent.command.commands[command]  # type: ignore[union-attr]
    known = {one.name for one in other.params}
    given = given_from(context, "COMMANDLINE") - set(without)
    words, arguments = ["elimtool", name], []
    for one in context.command.params:
        if one.name in given & known:
            own, values = _words(one, context.params[one.name])
            words += own
            arguments += values
    last = [one for one in arguments if one.startswith("-") and one != "-"]
    first = [one for one in arguments if one not in last]
    return [*words[:2], *first, *words[2:], *more, *(["--", *last] if last else [])]


def _words(param: Any, value: Any) -> tuple[list[str], list[str]]:
    """Write a parameter: its words as an option, and as an argument."""
    values = [str(one) for one in (value if isinstance(value, list | tuple) else [value])]
    if param.param_type_name == "argument":
        return [], values
    if isinstance(value, bool):
        return [param.opts[0] if value else param.secondary_opts[0]], []
    flag = param.opts[0]
    # a value that begins with a dash would be read as an option
    return [
        word for one in values for word in ([f"{param.opts[-1]}={one}"] if one[:1] == "-" else [flag, one])
    ], []
