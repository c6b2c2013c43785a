"""Encode a prompt for one model: ids, spans, sinks, probed positions, target tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING

from elimtool.errors import ElimError
from elimtool.model.rendering import Rendered
from elimtool.model.scores import Question, Scores, Suspect, scored
from elimtool.model.spans import prefill_tokens, sink_positions, spans_of, template_tokens
from elimtool.model.targets import Choice, choices, resolve, to_score
from elimtool.model.tokens import Tokenizer, Tokens
from elimtool.model.view import Encoded
from elimtool.prompts.position import Position, check_position
from elimtool.prompts.prompt import Message, Prompt, check_unicode, default_id

if TYPE_CHECKING:
    from elimtool.model.model import Model


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt as tokens, before it is decided how its targets are written.

    Attributes:
        prompt: Text or chat, with targets, foils and spans.
        text: Its text, a chat rendered.
        clock: The time that its chat template read; ``None`` where it read none.
        tokens: Its tokens.
        asked: Its targets and foils.
        question: What to ask the model before ``encode``.
    """

    prompt: Prompt
    text: str
    clock: str | None
    tokens: Tokens
    asked: tuple[Choice, ...]
    question: Question


def encode_all(
    model: Model,
    prompts: Sequence[Prompt],
    position: Position,
    sinks: str,
    target_space: str,
    units: str,
    written: tuple[int, ...],
    suspect: Suspect | None = None,
) -> list[Encoded | Exception]:
    """Tokenise prompts for a model, which is asked once how the targets of all of them are written."""
    tokenizer, context = model.tokenizer, model.context
    drafts: list[Draft | Exception] = []
    for prompt in prompts:
        try:
            drafts.append(
                draft(prompt, tokenizer, context=context, position=position, target_space=target_space)
            )
        except Exception as error:  # a tokenizer may fail in any way on one text: the others go on
            drafts.append(error)
    answers = iter(scored(model, [one.question for one in drafts if isinstance(one, Draft)], suspect))
    found: list[Encoded | Exception] = []
    for one in drafts:
        answer = one if isinstance(one, Exception) else next(answers)
        if isinstance(one, Exception):
            found.append(one)
            continue
        if isinstance(answer, Exception):
            found.append(answer)
            continue
        try:
            found.append(
                encode(
                    one,
                    tokenizer,
                    answer,
                    context=context,
                    position=position,
                    sinks=sinks,
                    target_space=target_space,
                    units=units,
                    written=written,
                )
            )
        except Exception as error:  # given back like those above: the caller raises or records it
            found.append(error)
    pairs = zip(prompts, found, strict=True)
    return [prompt.located(one) if isinstance(one, Exception) else one for prompt, one in pairs]


def draft(
    prompt: Prompt,
    tokenizer: Tokenizer,
    *,
    context: int | None,
    position: Position = "last",
    target_space: str = "auto",
) -> Draft:
    """Tokenise a prompt, its targets and foils.

    Args:
        prompt: Text or chat, with targets, foils and spans.
        tokenizer: The model's tokenizer.
        context: Longest input of the model in tokens; ``None`` where it states none.
        position: Query positions to probe, see ``elimtool.prompts.position``.
        target_space: ``auto`` or ``exact``.

    Raises:
        ElimError: The prompt is empty or too long, or a target does not fit it.
    """
    chat = bool(prompt.messages)
    prompt = replace(prompt, chat=prompt.chat.pinned()) if chat else prompt
    rendered = tokenizer.render(prompt.messages, prompt.chat) if chat else Rendered(prompt.text or "")
    text = rendered.text
    if not text:
        raise ElimError("the prompt is empty", "give at least one character; a model predicts from something")
    check_unicode("the prompt", text)
    tokens = (
        tokenizer.encode(text, special=not chat)
        if prompt.scored is None
        else tokenizer.encode_scored(text, prompt.scored)
    )
    if not tokens.ids:
        raise ElimError(f"the prompt {text!r} has no token in this model's vocabulary", "choose another text")
    _check_length(len(tokens.ids), 0, 0, context)
    asked = choices(tokenizer, text, prompt.targets, prompt.foils, rule=target_space, special=not chat)
    wanted = to_score(tokenizer, asked, append=check_position(position).word == "last")
    longest = max((len(ids) for ids in wanted), default=1)
    fits = context is None or len(tokens.ids) + longest - 1 <= context
    clock = prompt.chat.now if rendered.clock else None
    return Draft(prompt, text, clock, tokens, asked, Question(tokens.ids, wanted if fits else ()))


def encode(
    drafted: Draft,
    tokenizer: Tokenizer,
    scores: Scores,
    *,
    context: int | None,
    position: Position = "last",
    sinks: str = "auto",
    target_space: str = "auto",
    units: str = "auto",
    written: tuple[int, ...] = (),
) -> Encoded:
    """Locate the spans, sinks, targets and probed positions of a prompt.

    Args:
        drafted: From ``draft``.
        tokenizer: The model's tokenizer.
        scores: The model's answer to its question; without one, targets are written in the usual way.
        context: Longest input of the model in tokens; ``None`` where it states none.
        position: Query positions to probe, see ``elimtool.prompts.position``.
        sinks: Attention-sink rule, see ``sink_positions``.
        target_space: ``auto`` or ``exact``.
        units: Kind of spans, see ``elimtool.model.spans.spans_of``.
        written: Tokens that the model wrote after the prompt, for a position among them.

    Raises:
        ElimError: The prompt is too long, or a span, target, sink or position does not fit it.
    """
    places = check_position(position)
    prompt, text, encoded = drafted.prompt, drafted.text, drafted.tokens
    append = places.word == "last"
    targets, appended = resolve(tokenizer, drafted.asked, scores, append=append, rule=target_space)
    one = len({target.spelling for target in targets}) == 1
    if one and context is not None and len(encoded.ids) + len(appended) > context:
        targets, appended = resolve(tokenizer, drafted.asked, scores, append=False, rule=target_space)
    ids = encoded.ids + appended + written
    _check_length(len(ids), len(appended), len(written), context)
    tokens = tuple(tokenizer.texts(ids))
    in_sink = sink_positions(ids, tokenizer.special_ids, sinks)

    def render(messages: Sequence[Message]) -> str:
        return tokenizer.render(messages, prompt.chat).text

    prefill = prefill_tokens(prompt, text, encoded.offsets, render)
    templated = template_tokens(prompt, text, encoded.offsets, render)
    new = tuple(range(len(ids) - len(written), len(ids)))
    known = (each[: len(appended)] for whole, each in scores.items() if whole[: len(appended)] == appended)
    return Encoded(
        prompt=prompt,
        prompt_id=prompt.id or default_id(text),
        text=text,
        token_ids=ids,
        tokens=tokens,
        n_appended=len(appended),
        spans=spans_of(prompt, text, tokens, encoded.offsets, in_sink, render, units, prefill, new),
        sinks=in_sink,
        # where a text is scored, all that stands before a token of it
        positions=tuple(range(len(ids) - 1)) if prompt.scored else places.among(tokens, new or prefill),
        targets=targets,
        n_prefill=len(prefill),
        n_written=len(written),
        offsets=encoded.offsets,
        templated=templated,
        clock=drafted.clock,
        control_tokens=_control_tokens(tokenizer, encoded, templated),
        appended_logprob=sum(next(known, (nan,))) if appended else nan,
    )


def _control_tokens(tokenizer: Tokenizer, encoded: Tokens, templated: frozenset[int]) -> tuple[str, ...]:
    """Spell the control tokens in what the user wrote, in order, each once."""
    known = tokenizer.control_ids
    found = [
        one
        for at, (one, (start, end)) in enumerate(zip(encoded.ids, encoded.offsets, strict=True))
        if one in known and start < end and at not in templated
    ]
    return tuple(dict.fromkeys(tokenizer.texts(found)))


def _check_length(count: int, appended: int, written: int, context: int | None) -> None:
    if context is not None and count > context:
        shared = f" with the {appended} that targets begin with" if appended else ""
        shared += f" with the {written} written" if written else ""
        raise ElimError(
            f"the prompt has {count:,} tokens{shared}, but the model's context is {context:,}",
            "shorten the prompt or choose a model with a longer context",
        )
