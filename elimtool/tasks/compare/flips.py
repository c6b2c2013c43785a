"""Find the tokens that only one of two readings eliminates at the final position.

The model keeps the tokens of the output's nucleus (the smallest set that holds 0.9), a sampler chain those
that it leaves to draw from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.engine.against import After, history
from elimtool.files.rows import Row
from elimtool.samplers import Chain, History, Ledger
from elimtool.tasks.compare.divergence import Reading

if TYPE_CHECKING:
    from elimtool.model.view import Encoded

MOST = 50
"""Most flips reported per place (the layers, each chain) and side: those whose probability differs most."""


def layer_flips(a: Reading, b: Reading) -> Iterator[Row]:
    """Find tokens in one output's nucleus and not in the other's, and the layer from which on this holds."""
    for side, kept, other in (("b", a, b), ("a", b, a)):
        apart = kept.nucleus & ~other.nucleus
        lasting = apart.flip(0).int().cumprod(0).flip(0)
        first = lasting.shape[0] - lasting.sum(0)  # as long as the last row holds it
        for token in _largest(apart[-1], a, b):
            yield {"token_id": token, "eliminated_in": side, "where": "layer", "layer": int(first[token]) - 1}


def stage_flips(
    a: Reading,
    b: Reading,
    encoded: tuple[Encoded, Encoded],
    chains: Sequence[Chain],
    against: After | None = None,
) -> Iterator[Row]:
    """Find tokens that a chain keeps on one side only, and the stage that removes them on the other.

    Args:
        a: What is read of the first prompt.
        b: What is read of the second.
        encoded: The prompts.
        chains: The chains.
        against: Reads the other logits that stages combine; ``None`` where none does.
    """
    past = [_past(one, against) for one in encoded]
    for chain in chains:
        first, second = (_run(chain, one, own) for one, own in zip((a, b), past, strict=True))
        for side, kept, other in (("b", first, second), ("a", second, first)):
            apart = kept.kept[0] & ~other.kept[0]  # a survivor's probability may underflow to 0
            for token in _largest(apart, a, b):
                stage = next(r.stage for r in other.records if bool(r.removed_mask[0, token]))
                yield {
                    "token_id": token,
                    "eliminated_in": side,
                    "where": "stage",
                    "chain": chain.name,
                    "stage": stage,
                }


def _past(one: Encoded, against: After | None) -> History:
    """What chains look back on at the last probed position, where the model's own text is not the prompt."""
    ids, own = one.token_ids[: one.positions[-1] + 1], len(one.token_ids) - one.n_written
    return history(ids[:own], ids[own:], against)


def _run(chain: Chain, reading: Reading, past: History) -> Ledger:
    return chain.run(reading.logits[None].double(), torch.full((1, 1), -1), histories=[past])


def _largest(apart: Bool[Tensor, "vocab"], a: Reading, b: Reading) -> list[int]:
    """List the tokens whose probability differs most, at most ``MOST``."""
    ids = apart.nonzero()[:, 0]
    difference = (a.logprobs[-1, ids].double().exp() - b.logprobs[-1, ids].double().exp()).abs()
    order = torch.argsort(difference, descending=True, stable=True)  # stable: ties by token id
    return [int(token) for token in ids[order[:MOST]]]


def ranks(logprobs: Float[Tensor, "vocab"], ids: Int[Tensor, "k"]) -> list[int]:
    """Rank tokens, 1 for the most probable; ties share the better rank."""
    return [int((logprobs > logprobs[token]).sum()) + 1 for token in ids]
