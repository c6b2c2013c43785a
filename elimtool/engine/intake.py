"""Prompts as they come in: defaults filled, duplicates refused, gathered into batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace

from elimtool.errors import ElimError
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt, as_prompts

BATCH_TOKENS = 4096
"""Padded tokens in one forward pass at most, unless a single prompt has more."""

LITTLE = 512
"""Up to this many padded tokens, padding costs less than a second forward pass."""


def ask(
    prompts: str | Prompt | Iterable[str | Prompt], targets: Sequence[str], foils: Sequence[str]
) -> list[Prompt]:
    """All prompts as ``Prompt``; those that follow nothing of their own follow ``targets`` and ``foils``.

    Raises:
        ElimError: There is no prompt, or a string stands where a list of them is meant.
    """
    for name, strings in (("targets", targets), ("foils", foils)):
        if isinstance(strings, str):
            raise ElimError(f"`{name}` must be a list of strings, got {strings!r}", f"give [{strings!r}]")
    asked = [_with_defaults(prompt, targets, foils) for prompt in as_prompts(prompts)]
    if not asked:
        raise ElimError("there is no prompt to trace", "give at least one prompt")
    return asked


def _with_defaults(prompt: Prompt, targets: Sequence[str], foils: Sequence[str]) -> Prompt:
    if prompt.targets or prompt.foils or not (targets or foils):
        return prompt
    return replace(prompt, targets=tuple(targets), foils=tuple(foils))


def fingerprint(asked: Sequence[Prompt]) -> str:
    """SHA-256 of everything that was asked: texts, targets, foils, spans and the rest, in order."""
    digest = hashlib.sha256()
    for prompt in asked:
        digest.update(json.dumps(asdict(prompt), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def refuse_duplicates(encoded: Sequence[Encoded | ElimError]) -> None:
    """Refuse two prompts with one id: tables could not be joined.

    Raises:
        ElimError: Both prompts are named by their number, from 1.
    """
    seen: dict[str, int] = {}
    for number, one in enumerate(encoded, start=1):
        if isinstance(one, Encoded) and (first := seen.setdefault(one.prompt_id, number)) != number:
            raise ElimError(
                f"prompts {first} and {number} have the same id '{one.prompt_id}'",
                "give each prompt an id of its own, or leave out the repeated one",
            )


def batches(encoded: Sequence[Encoded], most: int) -> Iterator[list[Encoded]]:
    """Consecutive prompts that go well together in one forward pass: at most half of it padding."""
    some: list[Encoded] = []
    for one in encoded:
        lengths = [len(other.token_ids) for other in [*some, one]]
        padded = max(lengths) * len(lengths)
        if some and (len(some) == most or padded > min(BATCH_TOKENS, max(2 * sum(lengths), LITTLE))):
            yield some
            some = []
        some.append(one)
    if some:
        yield some
