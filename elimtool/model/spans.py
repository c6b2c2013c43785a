"""Divide a prompt into spans of tokens: named by the user, chat roles, single tokens, or sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from elimtool.errors import ElimError
from elimtool.model.view import Span
from elimtool.prompts.prompt import PREFILL, REST, SINK, WRITTEN, Message, Prompt

ONE_BY_ONE = 64
"""Prompts of at most this many tokens get one span per token when the user names none."""

UNITS = ("auto", "spans", "roles", "sentences", "tokens")
"""Kinds of spans."""

_SENTENCE_END = re.compile(r"""[.!?…؟۔।॥]["'”’»)\]]{0,4}\s+|[。！？｡][。！？｡」』”’）]{0,4}\s*|\n+""")
_MARK = re.compile("\ue000([0-9]+)\ue001")

Render = Callable[[Sequence[Message]], str]

Offsets = Sequence[tuple[int, int]]


def tokens_of(start: int, end: int, offsets: Offsets) -> tuple[int, ...]:
    """List the tokens that share at least one character with ``[start, end)``.

    Byte-level tokenizers give every piece of a multi-byte character the whole character's offsets, so all
    pieces of an emoji belong to a span that contains it.
    """
    return tuple(i for i, (a, b) in enumerate(offsets) if a < end and b > start and a < b)


def sink_positions(ids: Sequence[int], special: frozenset[int], rule: str) -> tuple[int, ...]:
    """Find the attention sinks of a prompt.

    Args:
        ids: Token ids of the prompt.
        special: The tokenizer's special ids.
        rule: ``auto`` (position 0 and every special token), ``none``, or positions such as ``0,3``.

    Raises:
        ElimError: ``rule`` is not valid, or a position is outside the prompt.
    """
    if rule == "auto":
        return tuple(i for i, token in enumerate(ids) if i == 0 or token in special)
    if rule == "none":
        return ()
    if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*", rule):
        raise ElimError(f"`sinks` must be auto, none, or positions such as 0,5, got '{rule}'")
    positions = sorted({int(part) for part in rule.split(",")})
    if positions[-1] >= len(ids):
        raise ElimError(
            f"`sinks` {rule}: position {positions[-1]} is outside the prompt's {len(ids):,} tokens"
        )
    return tuple(positions)


def spans_of(
    prompt: Prompt,
    text: str,
    tokens: Sequence[str],
    offsets: Offsets,
    sinks: tuple[int, ...],
    render: Render,
    units: str = "auto",
    prefill: tuple[int, ...] = (),
    written: tuple[int, ...] = (),
) -> tuple[Span, ...]:
    """Make the spans that attention is summed over; ``<sink>`` comes first, ``<rest>`` last.

    With ``units`` ``auto``: the user's spans if any are named; else the chat's roles; else one span a token
    for prompts of at most ``ONE_BY_ONE`` tokens; else sentences. Any other of ``UNITS`` requests that kind.
    Tokens in no named or role span, except the sinks, are ``<rest>``, so that the spans add up to the prompt.
    A prefill and what the model wrote are a span each, unless ``tokens`` or ``sentences`` are requested.

    Raises:
        ElimError: The prompt has no spans of the requested kind, or a named span is not in the text, occurs
            twice, or covers no token.
    """
    head = [Span(SINK, sinks)] if sinks else []
    answer: list[Span] = []
    if units in ("sentences", "tokens"):
        named = []
    elif prompt.spans and units != "roles":
        named = [_named(request.name, *request.locate(text), offsets) for request in prompt.spans]
        answer = _answer(prefill, written, named)
    else:
        named = _roles(prompt, text, offsets, render) if prompt.messages else []
        answer = _answer(prefill, written, named)
        _refuse_none(units, prompt, named + answer)
    set_apart = frozenset(sinks).union(*(span.tokens for span in answer))
    if named or (answer and prompt.messages):
        covered = set_apart.union(*(span.tokens for span in named))
        left = tuple(i for i in range(len(tokens)) if i not in covered)
        return (*head, *named, *answer, *([Span(REST, left)] if left else []))
    if units == "tokens" or (units == "auto" and len(tokens) <= ONE_BY_ONE):
        single = [Span(f"{i}:{token}", (i,)) for i, token in enumerate(tokens) if i not in set_apart]
        return (*head, *single, *answer)
    return (*head, *_sentences(text, offsets, len(tokens), set_apart - set(sinks)), *answer)


def prefill_tokens(prompt: Prompt, text: str, offsets: Offsets, render: Render) -> tuple[int, ...]:
    """Find the tokens of the beginning of the answer, also one that begins before it; none without one."""
    if not prompt.continues:
        return ()
    if prompt.n_prefill:
        return tokens_of(len(text) - prompt.n_prefill, len(text), offsets)
    last = len(prompt.messages) - 1
    ranges = [(start, end) for index, start, end in _ranges(prompt.messages, text, render) if index == last]
    return tokens_of(*ranges[0], offsets) if ranges else ()


def template_tokens(prompt: Prompt, text: str, offsets: Offsets, render: Render) -> frozenset[int]:
    """List the tokens of a rendered chat that share no character with a message: the template wrote them.

    What the template rewrote of a message counts as the template's. None for a prompt that is a text.
    """
    if not prompt.messages:
        return frozenset()
    said = [tokens_of(start, end, offsets) for _, start, end in _ranges(prompt.messages, text, render)]
    return frozenset(range(len(offsets))).difference(*said)


def _answer(prefill: tuple[int, ...], written: tuple[int, ...], named: Sequence[Span]) -> list[Span]:
    """Make the spans of a prefill and of written tokens, of the tokens that no named span has."""
    taken = {token for span in named for token in span.tokens}
    found = []
    for name, tokens in ((PREFILL, prefill), (WRITTEN, written)):
        free = tuple(token for token in tokens if token not in taken)
        if free and any(span.name == name for span in named):
            raise ElimError(f"span name '{name}' is given twice", f"elimtool calls a span of its own {name}")
        if free:
            found.append(Span(name, free))
    return found


def _refuse_none(units: str, prompt: Prompt, named: Sequence[Span]) -> None:
    """Refuse kinds of spans that the prompt does not have."""
    if units == "spans":
        raise ElimError(
            "`units='spans'`: the prompt names no span", "name parts of it with `spans` (NAME=TEXT)"
        )
    if units == "roles" and not prompt.messages:
        raise ElimError(
            "`units='roles'`: the prompt is not a chat", "give messages (`chat`), or other `units`"
        )
    if units == "roles" and not named:
        raise ElimError("`units='roles'`: no message is found in the rendered chat", "give other `units`")


def _named(name: str, start: int, end: int, offsets: Offsets) -> Span:
    tokens = tokens_of(start, end, offsets)
    if not tokens:
        raise ElimError(f"span '{name}' covers no token of the prompt", "give a longer part of it")
    return Span(name, tokens)


def _roles(prompt: Prompt, text: str, offsets: Offsets, render: Render) -> list[Span]:
    """Make one span a role, over all its messages but one that is continued.

    Contents that the template rewrote go to ``<rest>``.
    """
    closed = prompt.messages[: -1 if prompt.continues else None]
    found: dict[str, set[int]] = {}
    for index, start, end in _ranges(prompt.messages, text, render):
        if index < len(closed):
            found.setdefault(closed[index].role, set()).update(tokens_of(start, end, offsets))
    return [Span(role, tuple(sorted(tokens))) for role, tokens in found.items() if tokens]


def _ranges(messages: Sequence[Message], text: str, render: Render) -> list[tuple[int, int, int]]:
    """Locate each message's content as (index, start, end)."""
    placed = _placed(messages, text, render)
    return _searched(messages, text) if placed is None else placed


def _placed(messages: Sequence[Message], text: str, render: Render) -> list[tuple[int, int, int]] | None:
    """Locate each message as (index, start, end) by rendering the chat with marks instead of contents.

    ``None`` where the template treats the contents differently from the marks.
    """
    # private-use characters, which no template trims or rewrites
    marked = [message.saying(f"\ue000{index}\ue001") for index, message in enumerate(messages)]
    try:
        first, *parts = _MARK.split(render(marked))
    except ElimError:
        return None
    if not text.startswith(first):
        return None
    ranges, cursor = [], len(first)
    for number, after in zip(parts[::2], parts[1::2], strict=True):
        content = messages[int(number)].content
        forms = (content, content.strip(), content.lstrip(), content.rstrip())
        form = next((form for form in forms if text.startswith(form + after, cursor)), None)
        if form is None:
            return None
        ranges.append((int(number), cursor, cursor + len(form)))
        cursor += len(form) + len(after)
    return ranges if cursor == len(text) else None


def _searched(messages: Sequence[Message], text: str) -> list[tuple[int, int, int]]:
    """Locate each message's content by its first occurrence after the message before."""
    ranges, cursor = [], 0
    for index, message in enumerate(messages):
        content = message.content if message.content in text[cursor:] else message.content.strip()
        start = text.find(content, cursor) if content else -1
        if start >= 0:
            cursor = start + len(content)
            ranges.append((index, start, cursor))
    return ranges


def _sentences(text: str, offsets: Offsets, n_tokens: int, apart: Collection[int]) -> list[Span]:
    """Make one span a sentence, named ``S1: first words``; a token belongs to the sentence it ends in.

    Tokens ``apart`` are in none.
    """
    borders = [match.end() for match in _SENTENCE_END.finditer(text)] + [len(text) + 1]
    members: list[list[int]] = [[] for _ in borders]
    sentence = 0
    for index in range(n_tokens):
        end = offsets[index][1] if index < len(offsets) else len(text)
        while end > borders[sentence]:
            sentence += 1
        if index not in apart:
            members[sentence].append(index)
    starts = [0, *borders[:-1]]
    spans: list[Span] = []
    for tokens, start, border in zip(members, starts, borders, strict=True):
        if tokens:
            words = " ".join(text[start:border].split())
            label = words if len(words) <= 24 else words[:23] + "…"
            spans.append(Span(f"S{len(spans) + 1}: {label}", tuple(tokens)))
    return spans
