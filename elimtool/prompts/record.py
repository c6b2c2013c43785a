"""Convert a record of a prompt file, a mapping of field names to values, to a ``Prompt``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.prompts.chat import ChatSettings, check_tools
from elimtool.prompts.design import Design
from elimtool.prompts.prompt import Message, Prompt, SpanRequest, check_unicode, default_id, has_surrogate

FIELDS = (
    "prompt",
    "messages",
    "id",
    "target",
    "targets",
    "foil",
    "foils",
    "spans",
    "group",
    "category",
    "tags",
    "meta",
    "prefill",
    "template_vars",
    "tools",
    "template",
    "tuple",
    "filler",
    "slots",
    "answers",
    "role",
    "scored",
    "seed",
)
"""Names of a record's fields; ``prompt`` or ``messages`` is required."""

HOW = 'a record is like {"prompt": "The capital of France is", "targets": ["Paris"]}'


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a prompt file.

    Attributes:
        line: First line in the file, from 1; for Parquet the row.
        prompt: The prompt, or the error (its message names file and line).
        id: Id in the file; ``None`` if it has none or cannot be read.
        text: Text of the prompt if it can be read, for the row of a record that is not valid.
    """

    line: int
    prompt: Prompt | ElimError
    id: str | None = None
    text: str | None = None

    @property
    def prompt_id(self) -> str | None:
        """Id in tables, if it is known without a model's chat template.

        ``None`` for a chat without an id: its default id is made from the rendered text.
        """
        if self.id is not None:
            return self.id
        if isinstance(self.prompt, ElimError):
            return f"<line {self.line}>"
        return default_id(self.prompt.text) if self.prompt.text is not None else None

    @property
    def key(self) -> bytes:
        """Key of 16 bytes, equal for records with the same id; small, as large files have many."""
        if (known := self.prompt_id) is not None:
            return hashlib.sha256(b"id\0" + known.encode("utf-8", "surrogatepass")).digest()[:16]
        assert isinstance(self.prompt, Prompt)
        chat = self.prompt.chat
        said = [one.given or (one.role, one.content) for one in self.prompt.messages]
        more = (chat.template_vars, chat.tools) if chat.template_vars or chat.tools else ()
        turns = json.dumps([*said, *more])
        return hashlib.sha256(b"chat\0" + turns.encode("ascii")).digest()[:16]


def record_of(fields: Mapping[str, Any], line: int, where: str) -> Record:
    """Build a record from its fields; fields that are not given are absent from the mapping.

    Args:
        fields: Values of JSON types by field name.
        line: Line of the file, from 1.
        where: File and line for messages.
    """
    known = fields.get("id")
    if isinstance(known, int) and not isinstance(known, bool):  # True is an int to Python
        known = str(known)
    text = fields.get("prompt")
    try:
        made = _prompt({**fields, "id": known} if known is not None else fields)
        found: Prompt | ElimError = replace(made, where=where)
    except ElimError as error:
        found = ElimError(f"{where}: {error.message}", error.hint)
    own = known if isinstance(known, str) and known and not has_surrogate(known) else None
    return Record(line, found, own, text if isinstance(text, str) else None)


def broken(line: int, where: str, message: str, hint: str = "") -> Record:
    """Build a record whose fields cannot be read."""
    return Record(line, ElimError(f"{where}: {message}", hint))


def check_fields(names: tuple[str, ...], where: str, kind: str) -> None:
    """Refuse unknown names of columns or keys.

    Raises:
        ElimError: An unknown name; the hint gives the nearest valid one.
    """
    for name in names:
        if name not in FIELDS:
            raise ElimError(f"{where}unknown {kind} '{name}'", nearest(name, FIELDS))


def _prompt(fields: Mapping[str, Any]) -> Prompt:
    if not fields.keys() <= _READ.keys():
        check_fields(tuple(str(name) for name in fields), "", "key")
    if "prompt" not in fields and "messages" not in fields:
        raise ElimError("the record has neither 'prompt' nor 'messages'", HOW)
    if "prompt" in fields and "messages" in fields:
        raise ElimError("the record has both 'prompt' and 'messages'", "leave one of the two out")
    given: dict[str, Any] = {}
    named: dict[str, str] = {}
    for name, value in fields.items():
        argument, read = _READ[name]
        if (other := named.setdefault(argument, name)) != name:
            raise ElimError(f"the record has both '{other}' and '{name}'", "leave one of the two out")
        if value is None and name not in _NEVER_NULL:
            continue
        given[argument] = read(name, value)
    prefill = given.pop("prefill", None)
    chat = ChatSettings(given.pop("template_vars", {}), given.pop("tools", ()))
    design = Design(**{name: given.pop(name) for name in _DESIGN if name in given})
    if design.answers and not given.get("targets") and "scored" not in given:
        given["targets"] = tuple(dict.fromkeys(alias for one in design.answers for alias in one))
    made = Prompt(**given, chat=chat, design=design)
    return made if prefill is None else made.with_prefill(prefill)


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ElimError(f"'{name}' is {_kind(value)}, not a string", "put it in quotes")
    check_unicode(f"'{name}'", value)
    return value


def _number(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ElimError(f"'{name}' is {_kind(value)}, not a number from 0", "such as 3")
    return value


def _text(name: str, value: Any) -> str:
    if value is None:
        raise ElimError(f"'{name}' is null", "give the prompt's text, or leave the record out")
    if not _string(name, value):
        raise ElimError("the prompt is empty", "give at least one character; a model predicts from something")
    return str(value)


def _id(name: str, value: Any) -> str:
    if not _string(name, value):
        raise ElimError(
            "'id' is empty", "give an id, or leave the key out: the prompt's hash takes its place"
        )
    return str(value)


def _one(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        raise ElimError(f"'{name}' is null", "give a string, or leave the key out")
    if isinstance(value, list):
        raise ElimError(f"'{name}' is a list, not a string", f"name the list '{name}s'")
    return (_string(name, value),)


def _many(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        hint = f'give a list, such as ["{value}"]' if isinstance(value, str) else "give a list of strings"
        raise ElimError(f"'{name}' is {_kind(value)}, not a list", hint)
    for index, one in enumerate(value):
        if not isinstance(one, str):
            raise ElimError(f"'{name}[{index}]' is {_kind(one)}, not a string", "put it in quotes")
    return tuple(_string(name, one) for one in value)


def _messages(name: str, value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise ElimError(f"'{name}' is {_kind(value)}, not a list of messages", _MESSAGE)
    turns = []
    for index, one in enumerate(value):
        turns.append(_message(f"{name}[{index}]", one))
    return tuple(turns)


def _message(where: str, one: Any) -> Message:
    if not isinstance(one, dict) or "role" not in one:
        raise ElimError(f"'{where}' is not a role and a content", _MESSAGE)
    for key in one:
        if key not in MESSAGE_KEYS:
            raise ElimError(f"'{where}': unknown key '{key}'", nearest(str(key), MESSAGE_KEYS))
    calls = one.get("tool_calls")
    if calls and one.get("content") is None:
        texts = {"role": one["role"]}
    elif "content" not in one:
        raise ElimError(f"'{where}' is not a role and a content", _MESSAGE)
    else:
        texts = {key: one[key] for key in ("role", "content")}
    texts |= {key: one[key] for key in ("reasoning_content", "thinking", "name") if one.get(key) is not None}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ElimError(f"'{where}.{key}' is {_kind(value)}, not a string", _MESSAGE)
        check_unicode(f"'{where}.{key}'", value)
    if calls is not None and (not isinstance(calls, list) or not all(isinstance(one, dict) for one in calls)):
        raise ElimError(f"'{where}.tool_calls' is {_kind(calls)}, not a list of mappings", _CALL)
    given = None if set(one) == {"role", "content"} else _json(where, one)
    return Message(one["role"], one.get("content") or "", given)


MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "thinking")
"""Keys of a message that chat templates of transformers read."""

_MESSAGE = 'a message is like {"role": "user", "content": "Which city is it?"}'
_CALL = 'a call is like {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}'


def _spans(name: str, value: Any) -> tuple[SpanRequest, ...]:
    if not isinstance(value, dict):
        raise ElimError(f"'{name}' is {_kind(value)}, not a mapping", 'give {"country": "France"}')
    return tuple(_span(str(key), part) for key, part in value.items())


def _span(name: str, value: Any) -> SpanRequest:
    if isinstance(value, str):
        check_unicode(f"span '{name}'", value)
        return SpanRequest(name, text=value)
    if isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value):
        return SpanRequest(name, start=value[0], end=value[1])
    raise ElimError(
        f"span '{name}' is neither a text nor [start, end)", "give a part of the prompt, or two characters"
    )


def _json(name: str, value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ElimError(
            f"'{name}' holds NaN or infinity, for which JSON has no word", "leave it out"
        ) from error
    except RecursionError as error:
        raise ElimError(f"'{name}' is nested too deeply", "nest it less") from error
    return value


def _variables(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ElimError(f"'{name}' is {_kind(value)}, not a mapping", 'give {"enable_thinking": false}')
    return dict(_json(name, value))


def _slots(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ElimError(f"'{name}' is {_kind(value)}, not a mapping", 'give {"tense": "past"}')
    return dict(_json(name, value))


def _answers(name: str, value: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list) or not value:
        raise ElimError(
            f"'{name}' is {_kind(value)}, not a list", 'give ["Paris"], or aliases: [["UK", "Britain"]]'
        )
    return tuple(
        _many(f"{name}[{index}]", one if isinstance(one, list) else [one]) for index, one in enumerate(value)
    )


def _tools(name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    return check_tools(f"'{name}'", _json(name, value))


def _kind(value: Any) -> str:
    """Name the type of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a mapping" if isinstance(value, dict) else "a number"


_NEVER_NULL = frozenset({"prompt", "messages", "target", "targets", "foil", "foils"})
"""Fields where null is more likely a mistake than an absent value."""

_READ: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "prompt": ("text", _text),
    "messages": ("messages", _messages),
    "id": ("id", _id),
    "target": ("targets", _one),
    "targets": ("targets", _many),
    "foil": ("foils", _one),
    "foils": ("foils", _many),
    "spans": ("spans", _spans),
    "group": ("group", _string),
    "category": ("category", _string),
    "tags": ("tags", _many),
    "meta": ("meta", _json),
    "prefill": ("prefill", _string),
    "template_vars": ("template_vars", _variables),
    "tools": ("tools", _tools),
    "template": ("template", _string),
    "tuple": ("tuple_id", _string),
    "filler": ("filler", _string),
    "slots": ("slots", _slots),
    "answers": ("answers", _answers),
    "role": ("role", _string),
    "scored": ("scored", _string),
    "seed": ("seed", _number),
}

_DESIGN = ("template", "tuple_id", "filler", "slots", "answers", "role", "seed")
