"""Measure how often each regime is found, on held-out prose and on sequences unlike prose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from elimtool.lenses.regime import WINDOW, ReferenceStatistics, recent_surprisal, regimes
from elimtool.lenses.stream import Ids, read_out, stream
from elimtool.model.lock import exclusive
from elimtool.model.model import Model

FIRST = 2 * WINDOW
"""First position tested: all tokens of the tested window then repeat, also in a loop of 16 tokens."""


@exclusive
def regimes_of(
    model: Model,
    reference: ReferenceStatistics,
    windows: Sequence[Ids],
    *,
    first: int = FIRST,
    every: int = 8,
    batch_size: int = 8,
) -> list[str]:
    """Judge every ``every``-th position of each window, from ``first`` on.

    Args:
        model: The model; calls that run it wait for each other.
        reference: Regime reference of its lens.
        windows: Token ids; windows shorter than ``first`` give nothing.
        first: First position tested.
        every: Step between tested positions; close ones share most of the tokens that are tested.
        batch_size: Windows in one forward pass.
    """
    found: list[str] = []
    with torch.inference_mode():
        for some in stream(model, windows, batch_size):
            start = 0
            for ids, length in zip(some.windows, some.lengths, strict=True):
                final = some.residuals[-1, start : start + length]
                found += _of_window(model, reference, ids, final, range(first, len(ids), every))
                start += length
    return found


def _of_window(
    model: Model, reference: ReferenceStatistics, ids: Ids, final: torch.Tensor, tested: Sequence[int]
) -> list[str]:
    """Judge one window; row r of ``final`` is position r + 1, whose output predicts token r + 2."""
    logprobs = torch.cat([part for _, part in read_out(model, final)])
    following = torch.tensor(ids[2:], device=logprobs.device)
    surprisal = torch.full((len(ids),), torch.nan, dtype=torch.float64)
    surprisal[2:] = -logprobs[:-1].gather(-1, following[:, None])[:, 0].double().cpu()
    positions = torch.tensor(tested, dtype=torch.long)
    recent = recent_surprisal(ids, surprisal).at(positions)
    return regimes(reference, logprobs[(positions - 1).to(logprobs.device)].cpu(), recent).regime


def conditions(windows: Sequence[Ids], vocab: int, seed: int = 0) -> dict[str, list[Ids]]:
    """Make token sequences from windows of prose, each kind with less of its structure.

    Returns:
        ``prose`` as given; ``shuffled``, the same tokens in random order; ``random``, tokens drawn evenly
        from the vocabulary; ``loop 4`` and ``loop 16``, the window's first tokens over and over.
    """
    generator = torch.Generator().manual_seed(seed)

    def shuffled(ids: Ids) -> Ids:
        return tuple(ids[i] for i in torch.randperm(len(ids), generator=generator).tolist())

    def drawn(ids: Ids) -> Ids:
        return tuple(torch.randint(vocab, (len(ids),), generator=generator).tolist())

    def loop(ids: Ids, n: int) -> Ids:
        return tuple(ids[i % n] for i in range(len(ids)))

    return {
        "prose": list(windows),
        "shuffled": [shuffled(ids) for ids in windows],
        "random": [drawn(ids) for ids in windows],
        "loop 4": [loop(ids, 4) for ids in windows],
        "loop 16": [loop(ids, 16) for ids in windows],
    }


def shares(found: Sequence[str]) -> Mapping[str, float]:
    """Compute the share of each regime, 0 .. 1."""
    return {name: count / len(found) for name, count in sorted(Counter(found).items())}
