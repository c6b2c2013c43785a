"""Ranks, nuclei and divergences against sorting, scipy and torch.distributions, and their invariants."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from elimtool.numerics.distributions import entropy, entropy_and_collision, kl_to_last, plogp
from elimtool.numerics.kernels.loops import BLOCK
from elimtool.numerics.ranking import bisected, largest, nucleus, rank, top


@st.composite
def logit_rows(draw: st.DrawFn) -> torch.Tensor:
    """Rows that are flat, peaked, tied or partly removed; at least one token is alive in each."""
    rows, vocab = draw(st.integers(1, 4)), draw(st.integers(2, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    logits = torch.randn(rows, vocab, generator=generator, dtype=torch.float64)
    logits = logits * draw(st.sampled_from([0.0, 0.1, 1.0, 20.0]))
    if draw(st.booleans()):
        logits = logits.round()
    if draw(st.booleans()):
        logits[:, draw(st.integers(1, vocab - 1)) :] = -torch.inf
    return logits


@settings(deadline=None)
@given(logit_rows())
def test_rank_is_one_plus_the_strictly_larger(logits: torch.Tensor) -> None:
    vocab = logits.shape[-1]
    tokens = torch.arange(vocab).expand(logits.shape[0], -1)
    found, ties = rank(logits, tokens)
    for row in range(logits.shape[0]):
        values = logits[row].numpy()
        for token in range(vocab):
            assert int(found[row, token]) == 1 + int((values > values[token]).sum())
            assert int(ties[row, token]) == int((values == values[token]).sum()) - 1
    assert found.min() == 1
    assert found.max() <= vocab
    if bool((ties == 0).all()):
        assert torch.equal(found.sort(-1).values, torch.arange(1, vocab + 1).expand_as(found))


@settings(deadline=None)
@given(logit_rows(), st.integers(0, 40))
def test_ranks_do_not_depend_on_what_is_known_of_the_best(logits: torch.Tensor, known: int) -> None:
    tokens = torch.arange(logits.shape[-1]).expand(logits.shape[0], -1)
    rising = [np.sort(row) for row in logits.numpy()]
    leading = [row[row.searchsorted(row[-min(known, len(row))]) :] if known else row[:0] for row in rising]
    for one, other in zip(rank(logits, tokens), rank(logits, tokens, leading), strict=True):
        assert torch.equal(one, other)


@settings(deadline=None)
@given(logit_rows(), st.integers(1, 40))
def test_compiled_loops_rank_alike(logits: torch.Tensor, repeats: int) -> None:
    logits = logits.float().repeat(1, repeats)  # up to 1,600 tokens: many blocks, the last of them short
    tokens = torch.arange(logits.shape[-1]).expand(logits.shape[0], -1)
    parts = [part.amax(-1) for part in torch.split(logits, BLOCK, -1)]
    found = rank(logits, tokens, maxima=torch.stack(parts, -1).numpy())
    for one, other in zip(rank(logits, tokens), found, strict=True):
        assert torch.equal(one, other)


@settings(deadline=None)
@given(logit_rows(), st.integers(1, 40), st.integers(0, 40))
def test_the_largest_are_those_sorted_first(logits: torch.Tensor, k: int, known: int) -> None:
    k = min(k, logits.shape[-1])
    rising = logits.sort(-1).values
    leading = [row[len(row) - min(known, len(row)) :].numpy() for row in rising]
    assert torch.equal(largest(logits, k), rising.flip(-1)[:, :k])
    assert torch.equal(largest(logits, k, leading), rising.flip(-1)[:, :k])


def test_rank_of_no_token_is_empty() -> None:
    found, ties = rank(torch.zeros(2, 5), torch.zeros(2, 0, dtype=torch.long))
    assert found.shape == ties.shape == (2, 0)


@settings(deadline=None)
@given(logit_rows())
def test_entropy_and_collision_equal_other_libraries(logits: torch.Tensor) -> None:
    logprobs = logits.log_softmax(-1)
    probs = scipy.special.softmax(logits.numpy(), axis=-1)
    np.testing.assert_allclose(entropy(logprobs), scipy.special.entr(probs).sum(-1), atol=1e-12)
    squares = entropy_and_collision(logprobs)[1].numpy()
    np.testing.assert_allclose(squares, (probs**2).sum(-1), atol=1e-12)
    vocab = logits.shape[-1]
    top = probs.max(-1)
    assert (squares >= 1 / vocab - 1e-12).all()
    assert (squares <= top + 1e-12).all()
    assert (top <= np.sqrt(squares) + 1e-12).all()
    assert (np.exp(entropy(logprobs).numpy()) >= 1 / squares - 1e-9).all()


@settings(deadline=None)
@given(st.integers(0, 2**20), st.integers(2, 30))
def test_kl_equals_torch_distributions(seed: int, vocab: int) -> None:
    layers = torch.randn(4, 3, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = kl_divergence(Categorical(logits=layers[-1]), Categorical(logits=layers))
    torch.testing.assert_close(kl_to_last(layers.log_softmax(-1)), expected)


def test_kl_is_exactly_zero_at_the_last_layer_and_never_negative() -> None:
    logits = torch.randn(1, 200, 5000, generator=torch.Generator().manual_seed(0))
    layers = torch.cat([logits + torch.randn(1, 200, 5000) * 1e-6, logits]).log_softmax(-1)
    found = kl_to_last(layers)
    assert torch.equal(found[-1], torch.zeros(200))
    assert bool((found >= 0).all())
    assert bool((found[0] < 1e-5).all())


def test_kl_with_removed_tokens() -> None:
    removed = torch.tensor([[0.0, 0.0, -torch.inf]])
    whole = torch.zeros(1, 3)
    kept = kl_to_last(torch.stack([whole, removed]).log_softmax(-1))
    assert kept[:, 0].tolist() == pytest.approx([np.log(1.5), 0], abs=1e-6)
    lost = kl_to_last(torch.stack([removed, whole]).log_softmax(-1))
    assert lost[:, 0].tolist() == [np.inf, 0]


@settings(deadline=None)
@given(logit_rows(), st.sampled_from([0.01, 0.5, 0.9, 0.999]))
def test_nucleus_is_the_smallest_set(logits: torch.Tensor, mass: float) -> None:
    logprobs = logits.log_softmax(-1)
    order = logprobs.argsort(dim=-1, descending=True, stable=True)  # the lower id first among equals
    for inside in (nucleus(logprobs, mass), bisected(logprobs, mass)):
        for row, flags in enumerate(inside):
            size = int(flags.sum())
            assert set(flags.nonzero()[:, 0].tolist()) == set(order[row, :size].tolist())
        _assert_smallest(logprobs, mass, order, inside.gather(-1, order))


@pytest.mark.parametrize("mass", [0.3, 0.9, 0.95])
def test_nuclei_by_halving_are_those_by_sorting(mass: float) -> None:
    generator = torch.Generator().manual_seed(3)
    sharp = torch.tensor([0.1, 1.0, 3.0, 30.0])[:, None]
    logits = (torch.randn(4, 3000, generator=generator) * sharp).round(decimals=1)  # many ties
    logits[1, ::3] = -torch.inf
    logprobs = logits.log_softmax(-1)
    assert torch.equal(bisected(logprobs, mass), nucleus(logprobs, mass))


def _assert_smallest(logprobs: torch.Tensor, mass: float, tokens: torch.Tensor, member: torch.Tensor) -> None:
    for row in range(logprobs.shape[0]):
        kept = tokens[row][member[row]]
        assert len(set(kept.tolist())) == len(kept) > 0
        probs = logprobs[row].exp()
        assert float(probs[kept].sum()) >= mass - 1e-9
        assert float(probs[kept[:-1]].sum()) < mass + 1e-12
        left = [i for i in range(logprobs.shape[1]) if i not in set(kept.tolist())]
        if left:
            assert float(probs[left].max()) <= float(probs[kept].min())


def test_nuclei_of_one_token_and_of_equals() -> None:
    logits = torch.zeros(2, 5000)
    logits[0, 7] = 50.0
    for inside in (nucleus(logits.log_softmax(-1), 0.9), bisected(logits.log_softmax(-1), 0.9)):
        assert inside.sum(-1).tolist() == [1, 4500]
        assert bool(inside[0, 7]) and bool(inside[1, :4500].all())


def test_top_is_the_first_of_equals() -> None:
    assert top(torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 1.0]])).tolist() == [1, 0]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.sampled_from([0.1, 3.0, 60.0, 200.0]), st.integers(0, 2**20))
def test_terms_of_an_entropy_are_those_of_double_precision(n: int, sharpness: float, seed: int) -> None:
    scores = sharpness * torch.randn(5, n, generator=torch.Generator().manual_seed(seed))
    scores[0, 1:] = -torch.inf
    probs = torch.softmax(scores, -1)  # sharp ones hold zeros and numbers less than any normal one
    exact = -torch.special.entr(probs.double())
    torch.testing.assert_close(plogp(probs).double(), exact, rtol=1e-6, atol=1e-6)
    assert plogp(probs)[0].sum() == 0
