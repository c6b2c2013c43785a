"""Rewrite the parameters that a message names as flags of the running command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LIBRARY_NAMES = {
    "adapters": "adapter",
    "address": "ray_address",
    "attempts": "max_shard_attempts",
    "concepts": "concept",
    "continuation": "continue",
    "count": "controls",
    "cpus": "cpus_per_actor",
    "directory": "out",
    "foils": "foil",
    "gpus": "gpus_per_actor",
    "how": "ablate_with",
    "methods": "method",
    "origin": "knockout_from",
    "paraphrases": "paraphrase",
    "plugins": "plugin",
    "spans": "span",
    "targets": "target",
    "template_vars": "template_var",
}
"""Parameters that the library and the command line name differently: the library's name -> the command's."""

_NAMED = re.compile(
    # what a user typed stands in quotes, and may hold anything; an apostrophe opens no quote
    r"(?<!\w)'(?:[^']|'(?=\w))*'(?!\w)"
    r'|(?<!\w)"[^"]*"(?!\w)'
    r"|(?<![^\s(])`(?P<name>[A-Za-z_.]+)(?:=(?P<value>[^`]+))?`(?![\w`])"
)


def with_flags(text: str, command: Any) -> str:
    """Write each parameter in backquotes as the command's flag, if the command has an option for it.

    `` `target_space` `` becomes ``--target-space``, `` `position='all'` `` ``--position all``,
    `` `heads=False` `` ``--no-heads``. What stands in quotes is the user's own text and stays as it is; so do
    names that are no option of the command.

    Args:
        text: Message or hint of an error.
        command: The Click command that ran.
    """
    options = {one.name.rstrip("_"): one for one in command.params if one.param_type_name == "option"}

    def flag(found: re.Match[str]) -> str:
        name = found["name"]
        option = options.get((name or "").rstrip("_")) or options.get(LIBRARY_NAMES.get(name or "", ""))
        return found[0] if option is None else _flag(option, found["value"])

    return _NAMED.sub(flag, text)


def names_in(text: str) -> set[str]:
    """Return the parameters in backquotes, by the names that the command line has for them."""
    found = {one["name"].rstrip("_") for one in _NAMED.finditer(text) if one["name"]}
    return {LIBRARY_NAMES.get(name, name) for name in found}


def _flag(option: Any, value: str | None) -> str:
    long = max(option.opts, key=len)
    if option.is_flag:
        return str(option.secondary_opts[0]) if value == "False" and option.secondary_opts else str(long)
    return str(long) if value is None else f"{long} {value.strip(chr(39))}"


def running(command: Any, arguments: Sequence[str]) -> Any:
    """Find the command that the arguments run, from the outermost group down.

    No group has an option with a value, so the first word that is a command's name is that command.
    """
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    return command
