"""Define what a chat template is given beside the messages: variables, tools and the time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from elimtool.errors import ElimError, checked_fields

PINNED = "2026-01-01"
"""Time that templates read where results must not depend on the day: in batches and checks."""

RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"})
"""Names of a template that have places of their own or are not the user's to set."""


@checked_fields
@dataclass(frozen=True, slots=True)
class ChatSettings:
    """What a chat template is given beside the messages.

    Attributes:
        template_vars: Variables by name, JSON values, such as ``enable_thinking``.
        tools: JSON schemas of the tools that the model may call.
        now: The time that the template reads, ISO 8601; ``None`` for the start of the day of the run.
    """

    template_vars: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    now: str | None = None

    def __post_init__(self) -> None:
        for name in self.template_vars:
            if not name.isidentifier() or name in RESERVED:
                raise ElimError(
                    f"`template_vars`: '{name}' is not a variable that can be set", "such as enable_thinking"
                )
        if self.now is not None:
            check_time(self.now)

    def over(self, defaults: ChatSettings) -> ChatSettings:
        """Lay these settings over others, which hold where these say nothing."""
        return ChatSettings(
            {**defaults.template_vars, **self.template_vars},
            self.tools or defaults.tools,
            self.now or defaults.now,
        )

    def pinned(self) -> ChatSettings:
        """Return them with a time; if none is set with today at 00:00, so that reruns write the same."""
        return self if self.now else replace(self, now=datetime.now().strftime("%Y-%m-%d"))


def check_time(text: str) -> str:
    """Return an ISO 8601 date or time as it is.

    Raises:
        ElimError: It is neither.
    """
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ElimError(
            f"`now` must be a date or time in ISO 8601, got '{text}'", "such as 2026-01-31"
        ) from error
    return text


PLAIN = ChatSettings()
"""The messages alone."""
PLAIN_PINNED = ChatSettings(now=PINNED)
"""The messages alone, on a fixed day."""


def parse_variables(arguments: Iterable[str]) -> dict[str, Any]:
    """Read variables as given on a command line: NAME=VALUE, where VALUE is JSON if it parses, else text.

    Raises:
        ElimError: No ``=``, or a name comes twice.
    """
    found: dict[str, Any] = {}
    for one in arguments:
        name, separator, text = one.partition("=")
        name = name.strip()
        if not separator or not name:
            hint = "such as enable_thinking=false"
            raise ElimError(f"`template_vars` must be NAME=VALUE, got '{one}'", hint)
        if name in found:
            raise ElimError(f"`template_vars`: '{name}' is given twice", "leave one of the two out")
        found[name] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_tools(text: str, where: str) -> tuple[Mapping[str, Any], ...]:
    """Read a file of tools: a JSON list of schemas, or one.

    Args:
        text: Contents of the file.
        where: What to call it in messages.

    Raises:
        ElimError: It is not JSON, or not a list of objects.
    """
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ElimError(f"{where} is not valid JSON: {reason}", TOOLS) from error
    return check_tools(where, [found] if isinstance(found, dict) else found)


TOOLS = 'a list such as [{"type": "function", "function": {"name": "weather", "parameters": {...}}}]'


def check_tools(where: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    """Return tools as they are.

    Raises:
        ElimError: They are not a list of objects.
    """
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise ElimError(f"{where} must hold a list of tools, each a JSON object", TOOLS)
    return tuple(value)
