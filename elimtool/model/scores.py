"""Score continuations of prompts by the model itself, many in few plain passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from elimtool.model.view import NOBODY, Batch, Encoded, LayerView
from elimtool.numerics.transfer import array, sent

if TYPE_CHECKING:
    from elimtool.model.model import Model

Ids = tuple[int, ...]
Scores = Mapping[Ids, tuple[float, ...]]
"""Continuation -> log-probability (nats) of each of its tokens, given the prompt and those before it."""

MOST_ROWS = 32
"""Most rows of one pass ..."""
MOST_TOKENS = 4096
"""... and most tokens, padding included, unless one row alone has more."""
READOUT_BYTES = 128 * 2**20
"""Bytes of logits held at a time, in float64."""


@dataclass(frozen=True)
class Question:
    """A prompt and the continuations of it to score.

    Attributes:
        ids: The prompt's tokens.
        continuations: Tokens that may follow it.
        encoded: What the tokens belong to, whose spans interventions act on.
    """

    ids: Ids
    continuations: tuple[Ids, ...]
    encoded: Encoded = NOBODY

    def rows(self) -> list[Ids]:
        """What must follow the prompt so that every token is predicted somewhere; none begins another."""
        starts = sorted({one[:-1] for one in self.continuations}, key=lambda one: (-len(one), one))
        kept: list[Ids] = []
        for start in starts:
            if not any(longer[: len(start)] == start for longer in kept):
                kept.append(start)
        return kept


@dataclass
class _ScoredRow:
    number: int
    ids: Ids
    after: Ids
    found: dict[Ids, float] = field(default_factory=dict)


Suspect = Callable[[Exception], None]
"""Called with an error of rows side by side, none of which fails alone: no prompt explains it."""


def scored(
    model: Model, questions: Sequence[Question], suspect: Suspect | None = None
) -> list[Scores | Exception]:
    """Score continuations with the model; a pass that fails fails only the prompts that fail alone.

    Args:
        model: The model.
        questions: Prompts with their continuations; prompts without any cost nothing.
        suspect: Told of errors that no prompt explains.

    Returns:
        For each question the scores of its continuations, or the error of its pass.
    """
    rows = [
        _ScoredRow(number, one.ids + after, after)
        for number, one in enumerate(questions)
        for after in one.rows()
    ]
    failed: dict[int, Exception] = {}
    ordered = sorted(rows, key=lambda row: len(row.ids))  # rows of like length, so that padding is small
    while ordered:
        count = 1
        while count < min(MOST_ROWS, len(ordered)) and (count + 1) * len(ordered[count].ids) <= MOST_TOKENS:
            count += 1
        group, ordered = ordered[:count], ordered[count:]
        _try(model, questions, group, failed, suspect)
    known: list[dict[Ids, float]] = [{} for _ in questions]
    for row in rows:
        known[row.number] |= row.found
    return [
        failed.get(number)
        or {ids: tuple(own[ids[:end]] for end in range(1, len(ids) + 1)) for ids in one.continuations}
        for number, (one, own) in enumerate(zip(questions, known, strict=True))
    ]


def _try(
    model: Model,
    questions: Sequence[Question],
    group: Sequence[_ScoredRow],
    failed: dict[int, Exception],
    suspect: Suspect | None = None,
) -> None:
    try:
        _score(model, questions, group)
    except Exception as error:  # of a single row it is given back, and raised or recorded by the caller
        if len(group) == 1:
            failed[group[0].number] = error
            return
        before = len(failed)
        for row in group:  # such as too little memory, or one prompt with infinite activations
            _try(model, questions, [row], failed)
        if suspect is not None and len(failed) == before:
            suspect(error)


def _score(model: Model, questions: Sequence[Question], group: Sequence[_ScoredRow]) -> None:
    """Run some rows, and note what each predicts of its prompt's continuations."""
    encoded = [
        replace(
            questions[row.number].encoded,
            token_ids=row.ids,
            positions=tuple(range(len(row.ids) - len(row.after) - 1, len(row.ids))),
        )
        for row in group
    ]
    batch = Batch.of(encoded, model.device)
    last: list[Tensor] = []

    def keep(view: LayerView) -> None:
        last[:] = [view.residual]

    model.stream(batch, (), keep)
    residuals = batch.real(last[0])
    starts = accumulate((len(one.positions) for one in encoded), initial=0)
    asked = [
        (start + at, row, continuation[: at + 1])
        for start, row in zip(starts, group, strict=False)
        for continuation in questions[row.number].continuations
        for at in range(min(len(continuation), len(row.after) + 1))
        if row.after[:at] == continuation[:at]
    ]
    step = max(1, READOUT_BYTES // (model.vocab * 8))  # 8 bytes: float64
    for begin in range(0, len(residuals), step):
        logits = model.readout(residuals[begin : begin + step]).double()
        totals = logits.logsumexp(-1)
        here = [one for one in asked if begin <= one[0] < begin + len(logits)]
        if here:
            at = sent(torch.tensor([[place - begin, ids[-1]] for place, _, ids in here]).T, logits.device)
            found = array(logits[at[0], at[1]] - totals[at[0]])
            for (_, row, ids), score in zip(here, found.tolist(), strict=True):
                row.found[ids] = score
