"""Score given tokens as what a model writes next: what a sampler chain leaves of each in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.model.scores import MOST_ROWS
from elimtool.model.view import NOBODY, Batch, LayerView
from elimtool.samplers import History, Ledger
from elimtool.samplers.draws import joined
from elimtool.samplers.grammar import checks
from elimtool.samplers.xtc import XTC

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain
    from elimtool.samplers.chain import State

Ids = tuple[int, ...]
Ways = Sequence[tuple[float, Ledger]]
"""Ledgers, one for each way that stages which act by chance can go, each with its probability."""


def outputs(model: Model, prompt: Ids, texts: Sequence[Ids]) -> list[Float64[Tensor, "tokens vocab"]]:
    """Compute the logits that predict each token of some texts after one prompt, in few passes.

    Args:
        model: The model.
        prompt: Token ids of the prompt.
        texts: Token ids that follow it, each at least one.

    Returns:
        For each text one row of logits for each of its tokens.

    Raises:
        ElimError: A text outgrows the model's context.
    """
    most = len(prompt) + max(map(len, texts), default=0) - 1  # nothing is predicted after the last token
    if model.context is not None and most > model.context:
        raise ElimError(
            f"the prompt and what follows it take {most:,} tokens, but the model's context is"
            f" {model.context:,}",
            "shorten one of the two",
        )
    found: list[Tensor] = []
    for begin in range(0, len(texts), MOST_ROWS):
        some = texts[begin : begin + MOST_ROWS]
        places = [range(len(prompt) - 1, len(prompt) - 1 + len(text)) for text in some]
        rows = [
            replace(NOBODY, token_ids=prompt + text[:-1], positions=tuple(where))
            for text, where in zip(some, places, strict=True)
        ]
        last: list[Tensor] = []

        def keep(view: LayerView, last: list[Tensor] = last) -> None:
            last[:] = [view.residual]  # the last layer's stays

        model.stream(Batch.of(rows, model.device), (), keep)
        found += [
            model.readout(residual[: len(text)]).double().cpu()  # chains work in float64 on the CPU
            for residual, text in zip(last[0], some, strict=True)
        ]
    return found


def probability_of(model: Model, one: Encoded, chain: Chain, ids: Sequence[int]) -> tuple[float, float]:
    """Compute how probable tokens are to be written after a prompt: through a chain, and without one.

    Each token's probability is what the chain leaves of it after those before it; of a stage that acts by
    chance it is the mean over its draw.

    Args:
        model: The model.
        one: The prompt.
        chain: The chain that each token is drawn through.
        ids: The tokens, at least one.

    Returns:
        Two probabilities in [0, 1], products over the tokens; the first is 0 where the chain removes one.

    Raises:
        ElimError: The text outgrows the model's context.
    """
    state = chain.start(1)
    through, alone = 1.0, 0.0
    (logits,) = outputs(model, one.token_ids, [tuple(ids)])
    for place, token in enumerate(ids):
        row = logits[place : place + 1]
        alone += float(row.log_softmax(-1)[0, token])
        if through:
            probs, ledger = left_by(chain, row, History(one.token_ids, tuple(ids[:place])), state)
            drawn = float(probs[token])
            through *= drawn
            if drawn:
                state = chain.accept(state, ledger, torch.tensor([token]))
    return through, float(torch.tensor(alone, dtype=torch.float64).exp())


def left_by(
    chain: Chain, logits: Float64[Tensor, "1 vocab"], history: History, state: State
) -> tuple[Float64[Tensor, "vocab"], Ledger]:
    """Run a chain on one row; return the probabilities that it leaves, and its last ledger.

    Of a stage that acts by chance they are the mean over its draw, and the ledger is of the largest draw.
    """
    found = ways(chain, logits, history, state)
    return mean_of(found), found[-1][1]


def ways(
    chain: Chain,
    logits: Float64[Tensor, "1 vocab"],
    history: History,
    state: State,
    followed: Sequence[int] = (-1,),
) -> Ways:
    """Run a chain on one row in each way that stages which act by chance can go.

    Args:
        chain: The chain.
        logits: The row.
        history: The tokens before.
        state: The state of the chain before this token.
        followed: Tokens whose fates the ledgers record.
    """
    return ways_of_rows(chain, logits, [history], state, torch.tensor([list(followed)]))


def ways_of_rows(
    chain: Chain,
    logits: Float64[Tensor, "rows vocab"],
    histories: Sequence[History],
    state: State,
    followed: Int64[Tensor, "rows k"],
) -> Ways:
    """Run a chain on several rows in each way that stages which act by chance can go; as for ``ways``."""
    found = []
    for draw, weight in _branches(chain):
        drawn = torch.full((len(logits),), draw, dtype=torch.float64)
        ledger = chain.run(logits, followed, histories=histories, state=state, draws=drawn)
        found.append((weight, ledger))
    return found


def mean_of(found: Ways) -> Float64[Tensor, "vocab"]:
    """Average what a chain leaves over the ways that it can go."""
    return torch.stack([weight * ledger.probs()[0] for weight, ledger in found]).sum(0)


def _branches(chain: Chain) -> Iterator[tuple[float, float]]:
    """Iterate over one draw for each way that stages which act by chance can go, and its probability.

    In a chain that runs twice both passes draw.
    """
    acting = {stage.probability for stage in chain.stages if isinstance(stage, XTC) and stage.fires is None}
    edges = sorted({0.0, 1.0, *acting})
    once = [((low + high) / 2, high - low) for low, high in pairwise(edges)]
    if not acting or not any(map(checks, chain.stages)):
        yield from once
        return
    for (first, weight), (second, share) in product(once, once):
        yield joined(first, second), weight * share
