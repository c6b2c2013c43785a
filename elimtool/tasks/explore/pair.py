"""Compare the prompts of two states of the page, as ``elimtool compare`` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from elimtool.errors import ElimError
from elimtool.report.html import compare as report
from elimtool.tasks.compare.asked import Controls
from elimtool.tasks.compare.prompts import compare_prompts
from elimtool.tasks.explore.asked import PageState
from elimtool.tasks.explore.states import TracedStates

OF_PROMPT = ("prompt", "chat", "system", "prefill", "spans")
"""Fields of a state that say what the prompt is."""


def compared(
    states: TracedStates,
    one: PageState,
    other: PageState,
    say: Callable[[str], None],
    stop: Callable[[], None],
) -> dict[str, Any]:
    """Compare two prompts at their last positions, with the targets and settings of the second state.

    Returns:
        ``line`` and ``prompt``, as a report of the comparison has them, and ``notes``.

    Raises:
        ElimError: The states have the same prompt, or something about it cannot be compared.
    """
    if all(getattr(one, name) == getattr(other, name) for name in OF_PROMPT):
        raise ElimError("both have the same prompt", "what became of the targets is said above")
    targets = tuple(dict.fromkeys((*one.targets, *other.targets)))
    foils = tuple(dict.fromkeys((*one.foils, *other.foils)))
    plain = {"position": "last", "ablate": (), "scale": (), "knockout": (), "generate": 0}
    pair = [replace(each, targets=targets, foils=foils, **plain) for each in (one, other)]  # type: ignore[arg-type]
    model = states.model(say)
    stop()
    say("comparing the prompts")
    found = compare_prompts(
        model, *(each.as_prompt() for each in pair), options=pair[1].options(), controls=Controls(count=0)
    )
    front = report.front(found)
    return {
        "notes": front["notes"],
        "line": front["prompts"][0],
        "prompt": next(iter(report.details(found))),
    }
