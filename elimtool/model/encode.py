"""Encode a prompt for one model: ids, spans, sinks, probed positions, target tokens."""

from __future__ import annotations

from elimtool.errors import ElimError
from elimtool.model.spans import sink_positions, spans_of
from elimtool.model.targets import resolve
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Encoded
from elimtool.prompts.position import Position
from elimtool.prompts.prompt import Prompt, check_unicode, default_id


def encode(
    prompt: Prompt,
    tokenizer: Tokenizer,
    *,
    context: int | None,
    position: Position = "last",
    sinks: str = "auto",
    target_space: str = "auto",
    units: str = "auto",
) -> Encoded:
    """Tokenise a prompt and locate its spans, sinks, targets and probed positions.

    Args:
        prompt: Text or chat, with targets, foils and spans.
        tokenizer: The model's tokenizer.
        context: Longest input of the model in tokens; ``None`` where it states none.
        position: Query positions to probe: the last token, all tokens, or one index from 0.
        sinks: Attention-sink rule, see ``sink_positions``.
        target_space: ``auto`` or ``exact``.
        units: Kind of spans, see ``elimtool.model.spans.spans_of``.

    Raises:
        ElimError: The prompt is empty or too long, or a span, target, sink or position does not fit it.
    """
    chat = bool(prompt.messages)
    text = tokenizer.render(prompt.messages) if chat else (prompt.text or "")
    if not text:
        raise ElimError("the prompt is empty", "give at least one character; a model predicts from something")
    check_unicode("the prompt", text)
    encoded = tokenizer.encode(text, special=not chat)
    if not encoded.ids:
        raise ElimError(f"the prompt {text!r} has no token in this model's vocabulary", "choose another text")
    targets, appended = resolve(
        tokenizer,
        text,
        prompt.targets,
        prompt.foils,
        rule=target_space,
        special=not chat,
        append=position == "last",
    )
    ids = encoded.ids + appended
    if context is not None and len(ids) > context:
        shared = f" with the {len(appended)} that all targets share" if appended else ""
        raise ElimError(
            f"the prompt has {len(ids)} tokens{shared}, but the model's context is {context}",
            "shorten the prompt or choose a model with a longer context",
        )
    tokens = tuple(tokenizer.texts(ids))
    in_sink = sink_positions(ids, tokenizer.special_ids, sinks)
    return Encoded(
        prompt=prompt,
        prompt_id=prompt.id or default_id(text),
        text=text,
        token_ids=ids,
        tokens=tokens,
        n_appended=len(appended),
        spans=spans_of(prompt, text, tokens, encoded.offsets, in_sink, tokenizer.render, units),
        sinks=in_sink,
        positions=_positions(position, len(ids)),
        targets=targets,
    )


def _positions(position: Position, n_tokens: int) -> tuple[int, ...]:
    if position == "last":
        return (n_tokens - 1,)
    if position == "all":
        return tuple(range(n_tokens))
    if not 0 <= position < n_tokens:
        raise ElimError(
            f"`position` {position} is outside the prompt, which has {n_tokens} tokens",
            f"give 0 to {n_tokens - 1}, last, or all",
        )
    return (position,)
