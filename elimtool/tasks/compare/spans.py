"""Give two prompts comparable spans.

A span that the user names need not be in both prompts: an injected text is in one only. In a chat the roles
are spans too, less the spans that the user names. Spans that nobody named are paired by the alignment.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elimtool.analysis.compare.injection import INJECTED
from elimtool.errors import ElimError
from elimtool.model.view import Encoded, Span
from elimtool.prompts.prompt import REST, SINK, Prompt, SpanRequest

if TYPE_CHECKING:
    from elimtool.analysis.compare.align import Alignment
    from elimtool.engine.options import TraceOptions
    from elimtool.model.model import Model


def split_requests(
    texts: tuple[str, str], requests: Sequence[SpanRequest]
) -> tuple[tuple[SpanRequest, ...], tuple[SpanRequest, ...]]:
    """Find which of the user's spans each prompt contains.

    Args:
        texts: Both prompts, rendered.
        requests: Spans that the user named for both.

    Raises:
        ElimError: A span is in neither prompt, or its text occurs more than once in one of them.
    """
    found: tuple[list[SpanRequest], list[SpanRequest]] = ([], [])
    for request in requests:
        missing: list[ElimError] = []
        for text, kept in zip(texts, found, strict=True):
            try:
                request.locate(text)
                kept.append(request)
            except ElimError as error:
                if not absent(request, text):
                    raise
                missing.append(error)
        if len(missing) == 2:
            raise ElimError(
                f"span '{request.name}': its text is in neither prompt",
                "it must be in at least one of them, letter by letter, white space and case included",
            )
    return tuple(found[0]), tuple(found[1])


def absent(request: SpanRequest, text: str) -> bool:
    """Whether a prompt lacks a span altogether, rather than containing its text more than once."""
    if request.text is None:
        return max(request.start or 0, request.end or 0) > len(text)
    known = request.text in text
    # ``text#2`` asks for the second occurrence: too high a number is an error, not an absence
    whole, mark, number = request.text.rpartition("#")
    return not known and not (mark and number.isdigit() and whole in text)


def encoded(model: Model, prompt: Prompt, options: TraceOptions) -> Encoded:
    """Tokenise a prompt; in a chat with named spans, the roles are spans too.

    Raises:
        ElimError: The prompt cannot be used.
    """
    named = {"position": options.position, "sinks": options.sinks, "target_space": options.target_space}
    one = model.encode(prompt, **named)  # type: ignore[arg-type]
    if not (prompt.messages and prompt.spans):
        return one
    roles = model.encode(replace(prompt, spans=()), **named).spans  # type: ignore[arg-type]
    mine = [span for span in one.spans if span.name not in (SINK, REST)]
    return with_spans(one, [*mine, *(role for role in roles if role.name not in (SINK, REST))])


def with_spans(one: Encoded, named: Sequence[Span]) -> Encoded:
    """Replace the spans of a prompt; tokens in none of them become ``<rest>``.

    Args:
        one: The prompt.
        named: The new spans. An earlier one wins over later ones with its name or tokens.
    """
    taken: set[int] = set()
    kept: list[Span] = []
    for span in named:
        free = tuple(token for token in span.tokens if token not in taken)
        if free and span.name not in {other.name for other in kept}:
            kept.append(Span(span.name, free))
            taken |= set(free)
    left = tuple(i for i in range(len(one.token_ids)) if i not in taken | set(one.sinks))
    head = [Span(SINK, one.sinks)] if one.sinks else []
    return replace(one, spans=(*head, *kept, *([Span(REST, left)] if left else [])))


def with_injected(b: Encoded, alignment: Alignment, special: Collection[int]) -> Encoded:
    """Mark all that the second prompt adds to the first as the span ``injected``.

    Raises:
        ElimError: It adds nothing, or has a span of this name already.
    """
    if any(span.name == INJECTED for span in b.spans):
        raise ElimError("`injection` and a span 'injected' were both given", "leave one of the two out")
    added = tuple(i for i in alignment.edited_b if b.token_ids[i] not in special)
    if not added:
        raise ElimError(
            "`injection`: the second prompt adds nothing to the first", "give the clean one first"
        )
    return with_spans(b, [Span(INJECTED, added), *named_spans(b)])


def named_spans(one: Encoded) -> list[Span]:
    """List the spans that the user or a chat's roles named, not those of an automatic division."""
    if not (one.prompt.spans or one.prompt.messages):
        return [span for span in one.spans if span.name == INJECTED]
    return [span for span in one.spans if span.name not in (SINK, REST)]


def matched(a: Encoded, b: Encoded, alignment: Alignment) -> Encoded:
    """Rename unnamed spans of the second prompt to those of the first that hold the same tokens.

    A span without a counterpart gets a name that the first prompt does not use.
    """
    if named_spans(a) or named_spans(b):
        return b
    places = dict((j, i) for i, j in alignment.matched)
    names = {span.tokens: span.name for span in a.spans if span.name != SINK}
    taken = {span.name for span in a.spans}

    def called(span: Span) -> Span:
        if span.name in (SINK, REST):
            return span
        same = names.get(tuple(places.get(token, -1) for token in span.tokens))
        if same is not None:
            return replace(span, name=same)
        return replace(span, name=f"{span.name} (B)") if span.name in taken else span

    return replace(b, spans=tuple(called(span) for span in b.spans))
