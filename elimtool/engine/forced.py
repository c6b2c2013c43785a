"""Score a text as what a model writes next: the probability that a sampler chain draws all its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.model.decode import Decoder
from elimtool.samplers import History, Ledger
from elimtool.samplers.xtc import XTC

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain
    from elimtool.samplers.chain import State


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
    decoder = Decoder(model)
    state = chain.start(1)
    through, alone = 1.0, 0.0
    logits = decoder.read(one.token_ids)
    for place, token in enumerate(ids):
        alone += float(logits.log_softmax(-1)[0, token])
        if through:
            probs, ledger = left_by(chain, logits, History(one.token_ids, tuple(ids[:place])), state)
            drawn = float(probs[token])
            through *= drawn
            if drawn:
                state = chain.accept(state, ledger, torch.tensor([token]))
        if place + 1 < len(ids):
            logits = decoder.read([token])
    return through, float(torch.tensor(alone, dtype=torch.float64).exp())


def left_by(
    chain: Chain, logits: Float64[Tensor, "1 vocab"], history: History, state: State
) -> tuple[Float64[Tensor, "vocab"], Ledger]:
    """Run a chain on one row; return the probabilities that it leaves, and its last ledger.

    Of a stage that acts by chance they are the mean over its draw, and the ledger is of the largest draw.
    """
    nobody = torch.full((1, 1), -1)  # no token is followed
    total: Tensor | float = 0.0
    for draw, weight in _branches(chain):
        drawn = torch.tensor([draw], dtype=torch.float64)
        ledger = chain.run(logits, nobody, histories=[history], state=state, draws=drawn)
        total = total + weight * ledger.probs()[0]
    assert isinstance(total, Tensor)  # there is at least one way
    return total, ledger


def _branches(chain: Chain) -> Iterator[tuple[float, float]]:
    """Iterate over one draw for each way that stages which act by chance can go, and its probability."""
    acting = {stage.probability for stage in chain.stages if isinstance(stage, XTC) and stage.fires is None}
    edges = sorted({0.0, 1.0, *acting})
    for low, high in pairwise(edges):
        yield (low + high) / 2, high - low
