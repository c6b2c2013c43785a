"""Choose the tokens to follow at each probed row: the user's targets and foils, or the model's leaders.

Where the answer is known (a prefill, or what the model wrote), its token there is followed too; of a text
that is scored nothing else is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.metrics.metric import Followed
from elimtool.model.scores import Question, scored
from elimtool.model.view import Batch, Encoded, Rows, Target
from elimtool.numerics.transfer import arrays, sent

if TYPE_CHECKING:
    from elimtool.model.model import Model

LEADERS = 5
"""Without targets, follow this many of the output's most probable tokens ..."""

FOLLOWED = 10
"""... and then tokens that rank first at some layer, later layers first, up to this many in all."""

Leaders = dict[tuple[str, int], tuple[Target, ...]]
"""The model's own leaders by prompt id and position."""


def follow(
    model: Model,
    batch: Batch,
    rows: Rows,
    output: Float[Tensor, "rows vocab"],
    top: Int[Tensor, "layers rows"],
    leaders: Leaders | None = None,
    *,
    joint: bool = True,
) -> Followed:
    """Choose the tokens to follow at some rows of a batch.

    Args:
        model: Spells tokens, and scores targets of several tokens.
        batch: The batch that the rows belong to.
        rows: ``(prompt, probe)`` indices of the rows.
        output: Log-probabilities (nats) of the model's own output.
        top: Most probable token of every layer.
        leaders: Leaders of an earlier pass, to be followed again; those of new rows are added.
        joint: Whether to score targets of several tokens as a whole, which takes further passes; else their
            joint log-probability is NaN.
    """
    known = {} if leaders is None else leaders
    chosen = []
    best = cache(lambda: _leaders(output, top))  # waited for once, and only where somebody has no targets
    for row, (prompt, probe) in enumerate(zip(*_listed(rows), strict=True)):
        one = batch.encoded[prompt]
        key = one.prompt_id, one.positions[probe]
        followed = one.targets
        if not followed and one.prompt.scored is None:
            if key not in known:
                known[key] = _as_targets(model, best()[row])
            followed = known[key]
        chosen.append(_with_answer(model, followed, one.follows(one.positions[probe])))
    width = max(len(targets) for targets in chosen)

    def grid(of: Callable[[Target], Any], none: Any) -> Tensor:
        rows = [[*map(of, targets), *[none] * (width - len(targets))] for targets in chosen]
        return torch.tensor(rows, dtype=torch.bool if none is False else torch.long)

    ids = grid(lambda target: target.token_id, -1)
    is_foil, ambiguous = grid(lambda one: one.is_foil, False), grid(lambda one: one.ambiguous, False)
    rest = _remainders(model, batch, rows, chosen, width, joint)
    there = [sent(one, output.device) for one in (ids, is_foil, ambiguous, rest)]
    # rows with fewer targets are padded with -1, whose value nobody reads
    logprob = output.gather(-1, there[0].clamp(min=0)).double() + there[3]
    found = Followed(there[0], there[1], there[2], chosen, logprob)
    found.__dict__["here"] = arrays({"ids": ids, "is_foil": is_foil, "ambiguous": ambiguous})
    return found


def _listed(rows: Rows) -> tuple[list[int], list[int]]:
    prompt, probe = rows.here
    return prompt.tolist(), probe.tolist()


def _leaders(final: Float[Tensor, "rows vocab"], top: Int[Tensor, "layers rows"]) -> list[list[int]]:
    """List the output's top tokens, then the top tokens of earlier layers, the latest layer first."""
    leaders = final.topk(min(LEADERS, final.shape[-1]), dim=-1).indices
    best, led = (one.tolist() for one in arrays({"best": leaders, "led": top.flip(0).T}).values())
    return [list(dict.fromkeys([*b, *earlier]))[:FOLLOWED] for b, earlier in zip(best, led, strict=True)]


def _as_targets(model: Model, ids: Sequence[int]) -> tuple[Target, ...]:
    texts = model.tokenizer.texts(ids)
    return tuple(Target.single(text, token) for text, token in zip(texts, ids, strict=True))


def _with_answer(model: Model, followed: tuple[Target, ...], token: int | None) -> tuple[Target, ...]:
    """Follow the token of the answer too, unless it is followed already."""
    if token is None or any(one.token_id == token for one in followed):
        return followed
    return (*followed, *_as_targets(model, [token]))


def _remainders(
    model: Model,
    batch: Batch,
    rows: Rows,
    chosen: Sequence[Sequence[Target]],
    width: int,
    joint: bool,
) -> Float[Tensor, "rows k"]:
    """Score each target's tokens after the first (nats): 0 for a single token, NaN where not measured.

    A target continues the whole prompt, so a joint probability exists only at the prompt's last position.
    Foils have no use for one.
    """
    rest = torch.zeros(len(chosen), width, dtype=torch.float64)
    places: list[tuple[int, int]] = []
    questions: list[Question] = []
    for row, (prompt, probe) in enumerate(zip(*_listed(rows), strict=True)):
        one = batch.encoded[prompt]
        last = one.positions[probe] == len(one.token_ids) - 1
        for k, target in enumerate(chosen[row]):
            if len(target.token_ids) == 1:
                continue
            rest[row, k] = torch.nan
            if joint and last and not target.is_foil and _can_follow(model, one, target):
                begun = one.token_ids + target.token_ids[:1]
                places.append((row, k))
                questions.append(Question(begun, (target.token_ids[1:],), one))
    for (row, k), question, scores in zip(places, questions, scored(model, questions), strict=True):
        if isinstance(scores, Exception):
            raise scores
        rest[row, k] = sum(scores[question.continuations[0]])
    return rest


def _can_follow(model: Model, one: Encoded, target: Target) -> bool:
    """Tell whether a whole target fits behind a prompt, under the model's interventions too."""
    if model.context is not None and len(one.token_ids) + len(target.token_ids) - 1 > model.context:
        return False
    # on the longer prompt others would do something else
    return all(intervention.extends for intervention in model.interventions)
