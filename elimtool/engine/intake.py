"""Prepare a user's prompts for measuring: fill in defaults, tokenise once, refuse repeated ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elimtool.engine.along import with_cue
from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError
from elimtool.metrics.attention_weights import refuse_many
from elimtool.metrics.rollout import refuse_long
from elimtool.model.scores import Suspect
from elimtool.model.view import Encoded
from elimtool.prompts.chat import ChatSettings
from elimtool.prompts.prompt import Prompt, as_prompts

if TYPE_CHECKING:
    from elimtool.model.model import Model


def ask(
    prompts: str | Prompt | Iterable[str | Prompt], targets: Sequence[str], foils: Sequence[str]
) -> list[Prompt]:
    """Make every prompt a ``Prompt``; those without targets and foils get ``targets`` and ``foils``.

    Raises:
        ElimError: There is no prompt.
    """
    asked = [with_defaults(prompt, targets, foils) for prompt in as_prompts(prompts)]
    if not asked:
        raise ElimError("there is no prompt to trace", "give at least one prompt")
    return asked


def with_defaults(
    prompt: Prompt, targets: Sequence[str], foils: Sequence[str], chat: ChatSettings | None = None
) -> Prompt:
    """Give targets and foils to a prompt that has neither, and a chat what its template is given."""
    prompt = prompt if chat is None else prompt.with_chat(chat)
    if prompt.targets or prompt.foils or not (targets or foils):
        return prompt
    return replace(prompt, targets=tuple(targets), foils=tuple(foils))


def fingerprint(asked: Sequence[Prompt]) -> str:
    """Hash everything that the prompts say (SHA-256): texts, targets, foils, spans and the rest, in order."""
    digest = hashlib.sha256()
    for prompt in asked:
        digest.update(json.dumps(prompt.said(), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def encode_all(
    model: Model,
    prompts: Sequence[Prompt],
    options: TraceOptions,
    written: tuple[int, ...] = (),
    suspect: Suspect | None = None,
) -> list[Encoded | Exception]:
    """Tokenise prompts under the options of a run; one that cannot be used is replaced by its error."""
    if options.along is not None:
        prompts = [with_cue(prompt, options.cue) for prompt in prompts]
    found: list[Encoded | Exception] = []
    for one in model.encode_all(
        prompts, options.position, options.sinks, options.target_space, written=written, suspect=suspect
    ):
        try:
            if isinstance(one, Encoded):
                refuse_many(one, len(options.chosen_heads))
                if options.rollout:
                    refuse_long(one)
                for intervention in options.interventions:
                    intervention.fits(one)
            found.append(one)
        except ElimError as error:
            found.append(one.prompt.located(error) if isinstance(one, Encoded) else error)
    return found


def encode(model: Model, prompt: Prompt, options: TraceOptions, written: tuple[int, ...] = ()) -> Encoded:
    """Tokenise a prompt under the options of a run, and what the model wrote after it.

    Raises:
        ElimError: The prompt cannot be used, or an intervention does not fit it.
    """
    (one,) = encode_all(model, [prompt], options, written)
    if isinstance(one, Exception):
        raise one
    return one


def ids_of(found: Sequence[Encoded | Exception]) -> list[str | None]:
    """List the ids of prompts, ``None`` for those that cannot be used."""
    return [one.prompt_id if isinstance(one, Encoded) else None for one in found]


def refuse_duplicates(
    ids: Sequence[str | None], places: Sequence[int] | None = None, noun: str = "prompts"
) -> None:
    """Refuse two prompts with the same id: their rows in the tables could not be told apart.

    Args:
        ids: Id of each prompt; ``None`` where it has none.
        places: Where each prompt is, such as its line; by default its number from 1.
        noun: Word for the places in the message.

    Raises:
        ElimError: Two prompts have the same id; the message names both places.
    """
    seen: dict[str, int] = {}
    for known, place in zip(ids, places or range(1, len(ids) + 1), strict=True):
        if known is not None and (first := seen.setdefault(known, place)) != place:
            raise ElimError(
                f"{noun} {first} and {place} have the same id '{known}'",
                "give each prompt its own id (two chats may be rendered alike), or leave one out",
            )
