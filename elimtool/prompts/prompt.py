"""Define what a user asks about: prompts, messages, spans and targets, before they are tokenized."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from elimtool.errors import ElimError, checked_fields, nearest
from elimtool.prompts.chat import PLAIN, ChatSettings
from elimtool.prompts.design import ALONE, Design

# here, because model makes such spans and run documents them, and neither may import the other
SINK = "<sink>"
NULL = "<null>"
"""Where attention goes that a head gives to no token: to a learned score without a key."""
"""Span of the attention sinks."""
REST = "<rest>"
"""Span of the tokens outside the sinks and all named spans and roles."""
PREFILL = "prefill"
"""Span of the beginning of the answer that the model was given."""
WRITTEN = "written"
"""Span of the tokens that the model wrote after the prompt."""

LM_EVAL = "lm-eval"
"""Score a text after BOS, else EOS, as the lm-evaluation-harness does."""
SCORED = (LM_EVAL, "no-prefix")
"""Ways to score a text: after a token put before it, or from its own second token on."""

ASSISTANT = "assistant"
"""Role whose last message is continued."""
ASKING = frozenset({"user", "tool", "ipython"})
"""Roles whose last message is answered: users, and tools (``ipython`` is Llama 3's)."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_OCCURRENCE = re.compile(r"^(?P<text>.+)#(?P<number>[1-9][0-9]*)$", re.DOTALL)


@checked_fields
@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat.

    Attributes:
        role: Its name in the model's chat template (system, user, assistant, tool).
        content: Its text, empty where it has none.
        given: The whole message as the template reads it, role and content included, where it says more than
            these: calls of tools, for example. ``None`` for any other.
    """

    role: str
    content: str
    given: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.role:
            raise ElimError("a message has no role", "give one, such as user")
        check_span_name(self.role)

    @property
    def calls(self) -> bool:
        """Whether it calls tools."""
        return self.given is not None and bool(self.given.get("tool_calls"))

    def read(self) -> dict[str, Any]:
        """Return what a chat template reads of it."""
        return {"role": self.role, "content": self.content} if self.given is None else dict(self.given)

    def saying(self, content: str) -> Message:
        """Return it with another text; one that has none stays as it is."""
        if self.given is None:
            return Message(self.role, content)
        if self.given.get("content") is None:
            return self
        return Message(self.role, content, {**self.given, "content": content})


@checked_fields
@dataclass(frozen=True, slots=True)
class SpanRequest:
    """A part of the prompt that the user named, given as a substring or as characters ``[start, end)``.

    ``occurrence`` (from 1) selects one of several equal substrings; ``None`` requires that there is only one.
    """

    name: str
    text: str | None = None
    start: int | None = None
    end: int | None = None
    occurrence: int | None = None

    def __post_init__(self) -> None:
        check_span_name(self.name)
        by_text = self.text is not None
        by_range = self.start is not None and self.end is not None
        if by_text == by_range or (by_text and (self.start is not None or self.end is not None)):
            raise ElimError(f"span '{self.name}' needs either a text or a start and an end, and not both")
        if self.text == "":
            raise ElimError(f"span '{self.name}' has an empty text", "give a part of the prompt")
        if self.occurrence is not None and self.occurrence < 1:
            raise ElimError(f"span '{self.name}': `occurrence` must be at least 1, got {self.occurrence}")

    @classmethod
    def parse(cls, argument: str) -> SpanRequest:
        """Read ``NAME=TEXT`` or ``NAME=TEXT#2`` as given on a command line.

        Raises:
            ElimError: No ``=``, an empty name or an empty text.
        """
        name, separator, text = argument.partition("=")
        if not separator or not name.strip() or not text:
            raise ElimError(
                f"`spans` must be NAME=TEXT, got '{argument}'",
                "give a name and a part of the prompt, such as country=France",
            )
        return cls(name=name.strip(), text=text)

    def locate(self, prompt_text: str) -> tuple[int, int]:
        """Find the span in the text of a prompt.

        A text that ends in ``#2`` is first searched for as written. Only if it does not occur, and
        ``occurrence`` is not set, the number is read as the occurrence.

        Returns:
            Characters ``(start, end)`` with ``0 <= start < end <= len(prompt_text)``.

        Raises:
            ElimError: Not found, found more than once, or out of range.
        """
        if self.text is None:
            return self._characters(len(prompt_text))
        text, wanted = self.text, self.occurrence
        if wanted is None and text not in prompt_text and (match := _OCCURRENCE.match(text)):
            text, wanted = match["text"], int(match["number"])
        # in a lookahead, so that overlapping occurrences count too
        found = [m.start() for m in re.finditer(f"(?={re.escape(text)})", prompt_text)]
        if not found:
            raise ElimError(
                f"span '{self.name}': the text {text!r} is not in the prompt",
                "spans are compared letter by letter, white space and case included",
            )
        if wanted is None and len(found) > 1:
            raise ElimError(
                f"span '{self.name}': the text {text!r} occurs {len(found):,} times in the prompt",
                f"say which one: {self.name}={text}#2",
            )
        if wanted is not None and wanted > len(found):
            raise ElimError(
                f"span '{self.name}': there is no occurrence {wanted} of {text!r} in the prompt",
                f"it occurs {len(found):,} time{'s' if len(found) > 1 else ''}",
            )
        start = found[(wanted or 1) - 1]
        return start, start + len(text)

    def _characters(self, length: int) -> tuple[int, int]:
        start, end = self.start or 0, self.end or 0
        if start == end:
            raise ElimError(f"span '{self.name}' = [{start}, {end}) is empty", "the end is exclusive")
        if not 0 <= start < end <= length:
            raise ElimError(
                f"span '{self.name}' = [{start}, {end}) is outside the prompt's {length:,} characters",
                f"give 0 <= start < end <= {length}",
            )
        return start, end


def check_span_name(name: str) -> None:
    """Refuse empty names and names that elimtool reserves (``SINK``, ``REST``).

    Raises:
        ElimError: ``name`` is empty, not valid Unicode, or in angle brackets.
    """
    if not name.strip():
        raise ElimError("a span has no name", "give each span a name of its own")
    check_unicode("a span name", name)
    if name.startswith("<") and name.endswith(">"):
        raise ElimError(f"span name '{name}' is reserved", "names in angle brackets are elimtool's own")


def check_unicode(what: str, text: str) -> None:
    """Refuse text with a lone surrogate: it comes from bytes that are not UTF-8, and cannot be written.

    Raises:
        ElimError: ``text`` has one; the message says where.
    """
    if not text.isascii() and (found := _SURROGATE.search(text)):
        raise ElimError(
            f"{what} is not valid Unicode: a lone surrogate at character {found.start()}",
            "the input was probably not UTF-8; convert it first",
        )


def has_surrogate(text: str) -> bool:
    """Return whether a text has a lone surrogate, which cannot be tokenized or written."""
    return not text.isascii() and _SURROGATE.search(text) is not None


@checked_fields
@dataclass(frozen=True, slots=True)
class Prompt:
    """A text or a chat that the user asks about, with the tokens and spans to follow.

    Exactly one of ``text`` and ``messages`` is given. A chat whose last message is the assistant's is
    continued inside that message. ``targets`` and ``foils`` are strings scored as continuations; without
    targets the model's most probable tokens are followed. ``meta`` is any JSON value. ``n_prefill`` is how
    many characters at the end of ``text`` are the beginning of the answer, see ``with_prefill``. ``chat`` is
    what the model's template is given beside the messages. ``design`` is where it stands among other prompts.
    ``scored`` is one of ``SCORED`` where the text itself is scored: at every position the token that stands
    next is followed, and nothing else.
    ``where`` is the place in the file from which it was read, for errors; it is no part of what is asked.
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
    meta: Any = field(default_factory=dict)
    n_prefill: int = 0
    chat: ChatSettings = PLAIN
    design: Design = ALONE
    scored: str | None = None
    where: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.text is None) == (not self.messages):
            raise ElimError("a prompt needs either a text or messages, and not both")
        design = self.design
        names = design.template, design.tuple_id, design.filler
        for label in (self.id, self.group, self.category, *self.tags, *names):
            check_unicode("a label of a prompt", label or "")
        spans = [span.name for span in self.spans]
        for name in spans:
            if spans.count(name) > 1:
                raise ElimError(f"span name '{name}' is given twice", "give each span a name of its own")
        _check_continuations("target", self.targets)
        _check_continuations("foil", self.foils)
        for string in self.targets:
            if string in self.foils:
                raise ElimError(f"'{string}' is both a target and a foil", "leave one of the two out")
        if self.n_prefill and not 0 < self.n_prefill < len(self.text or ""):
            raise ElimError(f"`n_prefill` must leave a prompt before it, got {self.n_prefill}")
        if self.messages and self.messages[-1].role == ASSISTANT and self.messages[-1].calls:
            raise ElimError(
                "the last message calls a tool, and leaves nothing to continue",
                "add the tool's answer, a message with the role tool, or end with the question",
            )
        if self.text is not None and (self.chat.template_vars or self.chat.tools):
            given = "template_vars" if self.chat.template_vars else "tools"
            raise ElimError(f"`{given}` goes with a chat, and the prompt is a text", "give messages (`chat`)")
        _check_json("meta", self.meta)
        self._check_scored()

    def _check_scored(self) -> None:
        if self.scored is None:
            return
        if self.scored not in SCORED:
            said = f"`scored` must be one of {', '.join(SCORED)}, got '{self.scored}'"
            raise ElimError(said, nearest(str(self.scored), SCORED))
        asked = "messages" if self.messages else "targets" if self.targets or self.foils else "prefill"
        if self.messages or self.targets or self.foils or self.n_prefill:
            raise ElimError(f"`scored` goes with a text alone, not with {asked}", "leave one of the two out")

    @property
    def continues(self) -> bool:
        """Whether it ends in the beginning of an answer, a prefill."""
        return self.n_prefill > 0 or (bool(self.messages) and self.messages[-1].role == ASSISTANT)

    def with_chat(self, defaults: ChatSettings) -> Prompt:
        """Give a chat these settings where it has none of its own; a text stays as it is."""
        return replace(self, chat=self.chat.over(defaults)) if self.messages else self

    def said(self) -> dict[str, Any]:
        """Return all that it says, nested in plain values: what a fingerprint is made of."""
        told = {name: value for name, value in asdict(self).items() if name != "where"}
        told["messages"] = [
            {key: value for key, value in one.items() if key != "given" or value is not None}
            for one in told["messages"]
        ]
        if self.design == ALONE:  # as before there were suites, so that what was begun then goes on
            del told["design"]
        elif self.design.seed is None:
            del told["design"]["seed"]
        if self.scored is None:
            del told["scored"]
        del told["chat"]["now"]  # a default that templates without a clock never read: it would differ by day
        return told

    def located(self, error: Exception) -> Exception:
        """Return an error about this prompt with the place in its file in front, where it has one."""
        if not self.where or not isinstance(error, ElimError) or error.message.startswith(self.where):
            return error
        return ElimError(f"{self.where}: {error.message}", error.hint, error.exit_code)

    def with_prefill(self, prefill: str) -> Prompt:
        """Put the beginning of the answer behind the prompt: in a chat as the assistant's message, left open.

        Raises:
            ElimError: It is empty, or the chat ends with the assistant's message already.
        """
        if not prefill:
            raise ElimError("the prefill is empty", "give the beginning of the answer, or leave it out")
        check_unicode("the prefill", prefill)
        if self.continues:
            raise ElimError(
                "a prefill cannot follow the assistant's message",
                "the last message is continued already: put the whole beginning there",
            )
        if self.messages:
            return replace(self, messages=(*self.messages, Message(ASSISTANT, prefill)))
        return replace(self, text=f"{self.text}{prefill}", n_prefill=len(prefill))


def _check_json(name: str, value: Any) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ElimError(
            f"`{name}` must be what JSON can hold: {error}", "give texts, numbers, lists and mappings"
        ) from error


def _check_continuations(kind: str, strings: Sequence[str]) -> None:
    for string in strings:
        if string == "":
            raise ElimError(f"an empty {kind} cannot be scored", "give at least one letter")
        check_unicode(f"{kind} {string!r}", string)


def default_id(rendered: str) -> str:
    """Return the id of a prompt without one: the first 16 hex digits of the SHA-256 of its rendered text."""
    return hashlib.sha256(rendered.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def as_prompts(prompts: str | Prompt | Iterable[str | Prompt]) -> list[Prompt]:
    """Accept one prompt or many, as strings or ``Prompt`` objects."""
    if isinstance(prompts, str | Prompt):
        prompts = [prompts]
    return [Prompt(text=prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
