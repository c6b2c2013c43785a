"""Parts of a prompt as sets of tokens: named by the user, chat roles, single tokens, or sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

from elimtool.errors import ElimError
from elimtool.model.view import REST, SINK, Span
from elimtool.prompts import Message, Prompt

ONE_BY_ONE = 64
"""Prompts of at most this many tokens get one span per token when the user names none."""

_SENTENCE_END = re.compile(r"(?<=[.!?。！？।])\s+|\n+")

Offsets = Sequence[tuple[int, int]]


def tokens_of(start: int, end: int, offsets: Offsets) -> tuple[int, ...]:
    """Indices of the tokens that share at least one character with ``[start, end)``.

    Byte-level tokenizers give every piece of a multi-byte character the whole character's offsets, so
    all pieces of an emoji belong to a span that holds it.
    """
    return tuple(i for i, (a, b) in enumerate(offsets) if a < end and b > start and a < b)


def sink_positions(ids: Sequence[int], special: frozenset[int], rule: str) -> tuple[int, ...]:
    """The attention-sink set of a prompt.

    Args:
        ids: Token ids of the prompt.
        special: The tokenizer's special ids.
        rule: ``auto`` (position 0 and every special token), ``none``, or positions such as ``0,3``.

    Raises:
        ElimError: ``rule`` is none of these, or a position is outside the prompt.
    """
    if rule == "auto":
        return tuple(i for i, token in enumerate(ids) if i == 0 or token in special)
    if rule == "none":
        return ()
    if not re.fullmatch(r"\d+(,\d+)*", rule):
        raise ElimError(f"--sinks '{rule}' is not valid", "give auto, none, or token positions such as 0,5")
    positions = sorted({int(part) for part in rule.split(",")})
    if positions[-1] >= len(ids):
        raise ElimError(f"--sinks {rule}: position {positions[-1]} is outside the prompt's {len(ids)} tokens")
    return tuple(positions)


def spans_of(
    prompt: Prompt, text: str, tokens: Sequence[str], offsets: Offsets, sinks: tuple[int, ...]
) -> tuple[Span, ...]:
    """The spans that attention is summed over; ``<sink>`` comes first, ``<rest>`` last.

    The user's spans if any were named; else the chat's roles; else one span a token for prompts of at
    most ``ONE_BY_ONE`` tokens; else sentences. Tokens that named or role spans leave over, the sink's
    apart, are ``<rest>``, so that the parts of a prompt can be added up.

    Raises:
        ElimError: A named span is not in the text, occurs twice, or covers no token.
    """
    head = [Span(SINK, sinks)] if sinks else []
    if prompt.spans:
        named = [_named(request.name, *request.locate(text), offsets) for request in prompt.spans]
    else:
        named = _roles(prompt.messages, text, offsets)
    if named:
        covered = set(sinks).union(*(span.tokens for span in named))
        left = tuple(i for i in range(len(tokens)) if i not in covered)
        return (*head, *named, *([Span(REST, left)] if left else []))
    if len(tokens) <= ONE_BY_ONE:
        single = [Span(f"{i}:{token}", (i,)) for i, token in enumerate(tokens) if i not in sinks]
        return (*head, *single)
    return (*head, *_sentences(text, offsets, len(tokens)))


def _named(name: str, start: int, end: int, offsets: Offsets) -> Span:
    tokens = tokens_of(start, end, offsets)
    if not tokens:
        raise ElimError(f"span '{name}' covers no token of the prompt")
    return Span(name, tokens)


def _roles(messages: Sequence[Message], text: str, offsets: Offsets) -> list[Span]:
    """One span a role, over all its messages; a content that the template rewrote is left to ``<rest>``."""
    found: dict[str, list[int]] = {}
    cursor = 0
    for message in messages:
        content = message.content if message.content in text[cursor:] else message.content.strip()
        start = text.find(content, cursor) if content else -1
        if start < 0:
            continue
        cursor = start + len(content)
        found.setdefault(message.role, []).extend(tokens_of(start, cursor, offsets))
    return [Span(role, tuple(dict.fromkeys(tokens))) for role, tokens in found.items() if tokens]


def _sentences(text: str, offsets: Offsets, n_tokens: int) -> list[Span]:
    """Sentences in order, named ``S1: first words``; a token on a border belongs to the sentence it ends in."""
    borders = [match.end() for match in _SENTENCE_END.finditer(text)] + [len(text) + 1]
    members: list[list[int]] = [[] for _ in borders]
    sentence = 0
    for index in range(n_tokens):
        end = offsets[index][1] if index < len(offsets) else len(text)
        while end > borders[sentence]:
            sentence += 1
        members[sentence].append(index)
    starts = [0, *borders[:-1]]
    spans = []
    for tokens, start, border in zip(members, starts, borders, strict=True):
        if tokens:
            words = " ".join(text[start:border].split())
            label = words if len(words) <= 24 else words[:23] + "…"
            spans.append(Span(f"S{len(spans) + 1}: {label}", tuple(tokens)))
    return spans
