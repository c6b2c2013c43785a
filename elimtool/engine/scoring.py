"""Score chosen tokens under many prompts and interventions, side by side in few passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from elimtool.engine.buckets import passes_of
from elimtool.model.interventions.install import Plan, installed
from elimtool.model.lock import exclusive
from elimtool.model.view import Batch, Encoded, LayerView

if TYPE_CHECKING:
    from elimtool.model.interventions.reference import ReferenceActivations
    from elimtool.model.model import Model

READOUT_BYTES = 128 * 2**20
"""Bytes of logits held at a time."""


@exclusive
def log_probabilities(
    model: Model,
    prompts: Sequence[Encoded],
    plans: Sequence[Plan],
    reference: ReferenceActivations | None,
    where: Sequence[int],
    ids: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Score tokens after each prompt under its interventions.

    Args:
        model: The model.
        prompts: Prompts that all probe the same number of positions; one may occur many times.
        plans: Interventions on each prompt.
        reference: Activations that ablations put in.
        where: For each token, the index of its position among the probed ones.
        ids: The tokens.
        progress: Called with (prompts scored, prompts in all).

    Returns:
        Log-probabilities (nats, float64) [prompts, tokens].
    """
    found: dict[int, Tensor] = {}
    for group in _passes(model, [one.token_ids for one in prompts], apart=any(plans)):
        batch = Batch.of([prompts[index] for index in group], model.device)
        last: list[Tensor] = []

        def keep(view: LayerView, last: list[Tensor] = last) -> None:
            last[:] = [view.residual]  # the last layer's stays

        with installed(model.bridge, batch, [plans[index] for index in group], reference):
            model.stream(batch, (), keep)
        found.update(zip(group, _read(model, last[0], where, ids), strict=True))
        if progress is not None:
            progress(len(found), len(prompts))
    return torch.stack([found[index] for index in range(len(prompts))])


def tokens_run(model: Model, texts: Sequence[Sequence[int]]) -> int:
    """Count the tokens, padding left out, that ``log_probabilities`` runs for texts without interventions."""
    groups = ([texts[at] for at in group] for group in _passes(model, texts))
    return sum(sum(map(len, some)) - model.saved(some) for some in groups)


def _passes(model: Model, texts: Sequence[Sequence[int]], apart: bool = False) -> Iterator[list[int]]:
    return passes_of(model, texts, len(texts), apart=apart)


def _read(model: Model, residual: Tensor, where: Sequence[int], ids: Sequence[int]) -> Tensor:
    """Read log-probabilities [batch, tokens] off residuals [batch, probes, width], some rows at a time."""
    places = sorted(set(where))  # several tokens at one position share its readout
    columns = torch.tensor([places.index(place) for place in where], device=residual.device)
    wanted = torch.tensor(list(ids), device=residual.device)
    rows = residual[:, places]
    step = max(1, READOUT_BYTES // (len(places) * model.vocab * 4))
    found = []
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        logits = model.readout(part.flatten(0, 1)).reshape(len(part), len(places), -1)
        chosen = logits[:, columns, wanted].double()
        found.append((chosen - logits.double().logsumexp(-1)[:, columns]).cpu())
    return torch.cat(found)
