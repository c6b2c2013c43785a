"""Encode a prompt for one model: ids, spans, sinks, probed positions, target tokens."""

from __future__ import annotations

from elimtool.errors import ElimError
from elimtool.model.spans import prefill_tokens, sink_positions, spans_of, template_tokens
from elimtool.model.targets import resolve
from elimtool.model.tokens import Tokenizer
from elimtool.model.view import Encoded
from elimtool.prompts.position import Position, check_position
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
    written: tuple[int, ...] = (),
) -> Encoded:
    """Tokenise a prompt and locate its spans, sinks, targets and probed positions.

    Args:
        prompt: Text or chat, with targets, foils and spans.
        tokenizer: The model's tokenizer.
        context: Longest input of the model in tokens; ``None`` where it states none.
        position: Query positions to probe, see ``elimtool.prompts.position``.
        sinks: Attention-sink rule, see ``sink_positions``.
        target_space: ``auto`` or ``exact``.
        units: Kind of spans, see ``elimtool.model.spans.spans_of``.
        written: Tokens that the model wrote after the prompt, for a position among them.

    Raises:
        ElimError: The prompt is empty or too long, or a span, target, sink or position does not fit it.
    """
    places = check_position(position)
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
        append=places.word == "last",
    )
    ids = encoded.ids + appended + written
    if context is not None and len(ids) > context:
        shared = f" with the {len(appended)} that all targets share" if appended else ""
        shared += f" with the {len(written)} written" if written else ""
        raise ElimError(
            f"the prompt has {len(ids)} tokens{shared}, but the model's context is {context}",
            "shorten the prompt or choose a model with a longer context",
        )
    tokens = tuple(tokenizer.texts(ids))
    in_sink = sink_positions(ids, tokenizer.special_ids, sinks)
    prefill = prefill_tokens(prompt, text, encoded.offsets, tokenizer.render)
    new = tuple(range(len(ids) - len(written), len(ids)))
    return Encoded(
        prompt=prompt,
        prompt_id=prompt.id or default_id(text),
        text=text,
        token_ids=ids,
        tokens=tokens,
        n_appended=len(appended),
        spans=spans_of(prompt, text, tokens, encoded.offsets, in_sink, tokenizer.render, units, prefill, new),
        sinks=in_sink,
        positions=places.among(tokens, new or prefill),
        targets=targets,
        n_prefill=len(prefill),
        n_written=len(written),
        offsets=encoded.offsets,
        templated=template_tokens(prompt, text, encoded.offsets, tokenizer.render),
    )
