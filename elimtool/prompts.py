"""The nouns a user gives: prompts, messages, spans and targets, before any tokenizer has seen them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elimtool.errors import ElimError

_OCCURRENCE = re.compile(r"^(?P<text>.+)#(?P<number>[1-9][0-9]*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: ``role`` is what the model's chat template calls it (system, user, assistant)."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class SpanRequest:
    """A part of the prompt that the user named, as a substring or as characters ``[start, end)``.

    ``occurrence`` (from 1) picks one of several equal substrings; ``None`` demands that there is one.
    """

    name: str
    text: str | None = None
    start: int | None = None
    end: int | None = None
    occurrence: int | None = None

    @classmethod
    def parse(cls, argument: str) -> SpanRequest:
        """Read ``NAME=TEXT`` or ``NAME=TEXT#2`` as given on a command line.

        Raises:
            ElimError: No ``=``, an empty name or an empty text.
        """
        name, separator, text = argument.partition("=")
        if not separator or not name.strip() or not text:
            raise ElimError(
                f"--span '{argument}' is not NAME=TEXT",
                "give a name and a part of the prompt, such as --span country=France",
            )
        check_span_name(name.strip())
        return cls(name=name.strip(), text=text)

    def locate(self, prompt_text: str) -> tuple[int, int]:
        """Find the span in the text of a prompt.

        A text that ends in ``#2`` is first looked for as it stands; only if it does not occur, the
        number is read as the occurrence.

        Returns:
            Characters ``(start, end)`` with ``0 <= start < end <= len(prompt_text)``.

        Raises:
            ElimError: Not found, found more than once, or out of range.
        """
        if self.text is None:
            start, end = self.start or 0, self.end or 0
            if not 0 <= start < end <= len(prompt_text):
                raise ElimError(
                    f"span '{self.name}' = [{start}, {end}) is outside the prompt's {len(prompt_text)} characters"
                )
            return start, end
        text, wanted = self.text, self.occurrence
        if text not in prompt_text and (match := _OCCURRENCE.match(text)):
            text, wanted = match["text"], int(match["number"])
        found = [m.start() for m in re.finditer(f"(?={re.escape(text)})", prompt_text)]
        if not found:
            raise ElimError(
                f"span '{self.name}': the text {text!r} is not in the prompt",
                "spans are compared letter by letter, white space and case included",
            )
        if wanted is None and len(found) > 1:
            raise ElimError(
                f"span '{self.name}': the text {text!r} occurs {len(found)} times in the prompt",
                f"say which one: {self.name}={text}#2",
            )
        if wanted is not None and wanted > len(found):
            raise ElimError(
                f"span '{self.name}': occurrence {wanted} of {text!r} was asked for, but there are {len(found)}"
            )
        start = found[(wanted or 1) - 1]
        return start, start + len(text)


def check_span_name(name: str) -> None:
    """Refuse the names that elimtool gives to spans itself (``<sink>``, ``<rest>``).

    Raises:
        ElimError: ``name`` stands in angle brackets.
    """
    if name.startswith("<") and name.endswith(">"):
        raise ElimError(f"span name '{name}' is reserved", "names in angle brackets are elimtool's own")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the user asks about: a text or a chat, with the tokens and parts to follow.

    Exactly one of ``text`` and ``messages`` is given. ``targets`` and ``foils`` are strings scored as
    continuations; without targets the model's own leading tokens are followed.
    """

    text: str | None = None
    messages: tuple[Message, ...] = ()
    id: str | None = None
    targets: tuple[str, ...] = ()
    foils: tuple[str, ...] = ()
    spans: tuple[SpanRequest, ...] = ()
    group: str | None = None
    category: str | None = None
    tags: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.text is None) == (not self.messages):
            raise ElimError("a prompt needs either a text or messages, and not both")
        names = [span.name for span in self.spans]
        for name in names:
            if names.count(name) > 1:
                raise ElimError(f"span name '{name}' is given twice", "give each span a name of its own")
        for kind, strings in (("target", self.targets), ("foil", self.foils)):
            for string in strings:
                if string == "":
                    raise ElimError(f"an empty {kind} cannot be scored", f"give a {kind} of at least one letter")
        for string in self.targets:
            if string in self.foils:
                raise ElimError(f"'{string}' is both a target and a foil")


def default_id(rendered: str) -> str:
    """The id of a prompt that has none: the first 16 hex digits of the SHA-256 of its rendered text."""
    return hashlib.sha256(rendered.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def as_prompts(prompts: str | Prompt | Iterable[str | Prompt]) -> list[Prompt]:
    """Accept one prompt or many, as strings or ``Prompt`` objects."""
    if isinstance(prompts, str | Prompt):
        prompts = [prompts]
    return [Prompt(text=prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
