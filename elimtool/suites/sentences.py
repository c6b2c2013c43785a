"""Turn sentences that differ in some words into prompts and targets."""

from __future__ import annotations

from collections.abc import Sequence

from elimtool.prompts.prompt import LM_EVAL, SCORED
from elimtool.suites.suite import Fields

PromptAndTarget = tuple[str, str]

CONTINUATION = "continuation"
"""Rule that scores what follows the words that both sides of a minimal pair begin with."""
RULES = (*SCORED, CONTINUATION)
"""Ways to score minimal pairs."""
STEREOTYPICAL = "stereotypical"
"""Tag of the more stereotypical sentence of a pair."""


def by_suffix(sentences: Sequence[str]) -> list[PromptAndTarget] | None:
    """Ask how probable what the sentences share at their end is after what they do not.

    Args:
        sentences: Two or more.

    Returns:
        For each its beginning as the prompt, and the shared words at the end as the target; ``None`` where
        the last words differ, or one sentence is nothing else.
    """
    words = [one.split(" ") for one in sentences]
    shared = _alike([one[::-1] for one in words])
    if not shared or any(len(one) == shared for one in words):
        return None
    suffix = " " + " ".join(words[0][-shared:])
    return [(" ".join(one[:-shared]), suffix) for one in words]


def by_beginning(sentences: Sequence[str]) -> tuple[list[PromptAndTarget], bool] | None:
    """Ask how probable the rest of each sentence is after the words that all begin with.

    The difference of the targets' joint log-probabilities is that of the whole sentences. Where the first
    words differ, these are the prompts and are not scored.

    Args:
        sentences: Two or more.

    Returns:
        For each the beginning as the prompt and the rest as the target, and whether the first word is shared;
        ``None`` where a sentence has nothing after its beginning.
    """
    words = [one.split(" ") for one in sentences]
    shared = _alike(words)
    begin = max(shared, 1)
    if any(len(one) == begin for one in words):
        begin -= 1  # one sentence begins the other: its last word is what can be scored
    if not begin:
        return None
    return [(" ".join(one[:begin]), " " + " ".join(one[begin:])) for one in words], shared > 0


def as_scored(sentence: str, rule: str, space: bool = True) -> Fields:
    """Ask how probable a whole sentence is, token by token.

    The sentence's log-probability is the sum of ``survival.target_logprob`` over its rows.

    Args:
        sentence: The sentence.
        rule: One of ``elimtool.prompts.prompt.SCORED``.
        space: Whether the rule lm-eval puts a space before it, as the harness does where a task's context is
            empty; its task of CrowS-Pairs has none.

    Returns:
        Fields of a record.
    """
    return {"prompt": f" {sentence}" if space and rule == LM_EVAL else sentence, "scored": rule}


def differing(sentences: Sequence[str]) -> list[tuple[int, int]] | None:
    """Find the words in which sentences differ, between those that all begin and end with.

    Args:
        sentences: Two or more.

    Returns:
        Characters [start, end) in each; ``None`` where one sentence has no word there.
    """
    words = [one.split(" ") for one in sentences]
    begin = _alike(words)
    end = _alike([one[begin:][::-1] for one in words])
    start = len(" ".join(words[0][:begin])) + (begin > 0)
    stops = [len(" ".join(one[: len(one) - end])) for one in words]
    return [(start, stop) for stop in stops] if min(stops) > start else None


def _alike(lists: Sequence[Sequence[str]]) -> int:
    """Count the words that all lists begin with."""
    return next(
        (place for place, some in enumerate(zip(*lists, strict=False)) if len(set(some)) > 1),
        min(len(one) for one in lists),
    )
