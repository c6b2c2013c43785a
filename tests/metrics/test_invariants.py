"""What holds of single formulas for any numbers: 1-norm distances, low scores, reach, learned nulls."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from elimtool.metrics import attention_sums
from elimtool.metrics.attention_sums import AttentionSums
from elimtool.metrics.carried_vectors import taken_and_length

WIDTH = 12


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 2**20), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_shares_of_one_vector_contribute_these_shares(seed: int, weights: list[float]) -> None:
    result = drawn(seed, WIDTH)
    each = torch.tensor(weights, dtype=torch.float64)
    taken, length = taken_and_length(each[:, None] * result, result.expand(len(each), -1))
    np.testing.assert_allclose(taken, each * result.abs().sum(), atol=1e-9)
    np.testing.assert_allclose(length, each * result.norm(), atol=1e-9)


@given(st.integers(0, 2**20))
def test_a_part_brings_at_most_its_own_length_and_never_less_than_nothing(seed: int) -> None:
    parts = drawn(seed, 6, WIDTH)
    result = parts.sum(0).expand_as(parts)
    taken, _ = taken_and_length(parts, result)
    truth = (result.abs().sum(-1) - (result - parts).abs().sum(-1)).clamp(min=0)
    np.testing.assert_allclose(taken, truth, atol=1e-12)
    assert ((taken >= 0) & (taken <= parts.abs().sum(-1) + 1e-12)).all()
    flipped = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(WIDTH // 2)
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(seed))
    again, _ = taken_and_length((3 * parts * flipped)[:, order], (3 * result * flipped)[:, order])
    np.testing.assert_allclose(again, 3 * taken, atol=1e-12)
    assert float(taken_and_length(result[:1], result[:1])[0]) == pytest.approx(float(result[0].abs().sum()))


def rows(scores: Tensor, null: Tensor | None = None) -> AttentionSums:
    """Rows of one layer, prompt and query for scores of heads and keys; the first key is the sink."""
    heads, keys = scores.shape
    whole = scores if null is None else torch.cat([scores, null[:, None]], -1)
    weights = whole.softmax(-1)
    kept = weights[:, :keys].view(1, 1, heads, 1, keys)
    visible = torch.ones(1, 1, 1, keys, dtype=torch.bool)
    sink = torch.arange(keys)[None] == 0
    given_to_none = None if null is None else weights[None, None, :, None, -1]
    return AttentionSums.of(
        kept, visible, torch.eye(keys)[None].double(), sink, scores.view_as(kept), given_to_none
    )


@given(st.integers(0, 2**20), st.floats(-20, 20))
def test_low_scores_against_the_mean_ignore_a_constant(seed: int, shift: float) -> None:
    scores = drawn(seed, 3, 9)
    plain, moved = rows(scores).negatives(), rows(scores + shift).negatives()
    np.testing.assert_allclose(moved["below_mean_mass"], plain["below_mean_mass"], atol=1e-9)
    low = scores < 0
    np.testing.assert_allclose(plain["negative_frac"].flatten(), low.double().mean(-1))
    np.testing.assert_allclose(plain["negative_mass"].flatten(), (scores.softmax(-1) * low).sum(-1))
    equal = rows(torch.full((3, 9), shift, dtype=torch.float64)).negatives()
    assert float(equal["below_mean_mass"].abs().max()) == 0


@given(st.integers(0, 2**20), st.floats(-10, 10))
def test_a_null_rises_with_its_score_and_takes_from_all_keys_alike(seed: int, shift: float) -> None:
    scores, null = drawn(seed, 3, 9), drawn(seed + 1, 3)
    plain = rows(scores, null)
    some = plain.null()
    assert ((some > 0) & (some < 1)).all() and (rows(scores, null + 1).null() > some).all()
    np.testing.assert_allclose(some + plain.given.double() + plain.rest.double(), 1, atol=1e-12)
    together = rows(scores + shift, null + shift)
    np.testing.assert_allclose(together.null(), some, atol=1e-9)
    none = rows(scores, null - 80)
    np.testing.assert_allclose(none.null(), 0, atol=1e-12)
    np.testing.assert_allclose(none.weights, rows(scores).weights, atol=1e-12)

    def whole(one: AttentionSums, known: bool) -> Any:
        return one.wholes(torch.arange(9)[None] == 0, torch.tensor([[8]]), known)

    # what is left is the same distribution, so all of its own numbers are
    for name in ("entropy", "n_eff", "eliminated_frac", "context_90"):
        np.testing.assert_allclose(
            whole(plain, True)[name], whole(rows(scores), False)[name], rtol=1e-5, err_msg=name
        )
    np.testing.assert_allclose(plain.mass_no_sink[..., 1:], rows(scores).mass_no_sink[..., 1:], rtol=1e-6)


@given(st.integers(0, 2**20))
def test_reach_grows_with_the_share_that_it_holds(seed: int) -> None:
    found = rows(2 * drawn(seed, 3, 9))
    reached = []
    with pytest.MonkeyPatch.context() as patch:
        for held in (0.1, 0.5, 0.9, 1.0 - 1e-9):
            patch.setattr(attention_sums, "CONTEXT", held)
            reached.append(found.contexts())
    assert all((one <= other).all() for one, other in pairwise(reached))
    assert (reached[0] >= 1).all() and (reached[-1] == 8).all()  # the sink is not counted
