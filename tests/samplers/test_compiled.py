"""What compiled loops find of whole distributions: the same as without them, and as plain float64 code."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elimtool.numerics.kernels.loops import BLOCK
from elimtool.numerics.kernels.rows import held, measured
from elimtool.samplers import Ledger, StageRecord, resolve
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.compare import Ordering
from elimtool.samplers.distribution import LEADERS
from elimtool.samplers.survival import bounds
from tests.samplers.rows import KINDS, rows

VOCAB = 5_000
"""Several blocks, the last of them short, and pieces of rows for two threads."""
CHAINS = (
    "llama.cpp",
    "hf:temperature=0.7,top_p=0.9",
    "vllm",
    "temperature=2,top_k=40,typical=0.9",
    "typical=0.9,top_n_sigma=1,top_p=0.9",
    "min_p=0.02",
)
TENSORS = [one.name for one in fields(StageRecord) if "Tensor" in str(one.type)]


def targets(x: torch.Tensor) -> torch.Tensor:
    """The best token, one in the middle, the last, one twice and none."""
    middle = x.argsort(-1)[:, [-1, VOCAB // 2]]
    return torch.cat([middle, torch.tensor([[VOCAB - 1, 3, 3, -1]]).expand(len(x), -1)], 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "holes" not in kind])
def test_numbers_are_those_of_plain_double_precision(kind: str) -> None:
    x = rows(kind, 9, VOCAB)
    ids = targets(x)
    found = measured(x.numpy(), x.amax(-1).numpy(), ids.numpy())
    probs = torch.softmax(x, -1)
    np.testing.assert_allclose(found.probs, probs, rtol=2e-14)
    np.testing.assert_allclose(found.top_prob, probs.amax(-1), rtol=2e-14)
    np.testing.assert_allclose(found.entropy, torch.special.entr(probs).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(found.held, 1.0, rtol=1e-14)
    np.testing.assert_allclose(found.squared, probs.square().sum(-1), rtol=4e-14)
    np.testing.assert_allclose(found.least, probs.amin(-1), rtol=2e-14)
    np.testing.assert_allclose(found.deviation, x.std(-1, correction=0), rtol=1e-12, atol=1e-14)
    surprise = (-probs.log() - torch.special.entr(probs).sum(-1, keepdim=True)).abs()
    for k, token in enumerate(ids[0].tolist()):
        if token < 0:
            assert not found.larger[:, k].any()
            assert np.isnan(found.above[:, k]).all() and np.isnan(found.nearer[:, k]).all()
            continue
        mine = ids[:, k : k + 1]
        ahead = x > x.gather(1, mine)
        assert found.larger[:, k].tolist() == ahead.sum(-1).tolist()
        np.testing.assert_allclose(found.above[:, k], (probs * ahead).sum(-1), rtol=1e-12, atol=1e-16)
        nearer = surprise < surprise.gather(1, mine) - 1e-12
        np.testing.assert_allclose(found.nearer[:, k], (probs * nearer).sum(-1), rtol=1e-10, atol=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(-700, 0), min_size=1, max_size=60))
def test_probabilities_are_precise_however_small(below: list[float]) -> None:
    x = torch.tensor([[0.0, *below]], dtype=torch.float64)
    found = measured(x.numpy(), np.zeros(1), np.full((1, 1), -1))
    exact = np.exp(x.numpy().astype(np.longdouble))
    np.testing.assert_allclose(found.probs, (exact / exact.sum()).astype(np.float64), rtol=2e-15)


@pytest.mark.parametrize("below", [-torch.inf, -1e6, -745.0, -700.1])
def test_removed_and_far_scores(below: float) -> None:
    x = rows("normal", 2, VOCAB)
    x[1, 7], x[1, 9:VOCAB:2] = below, below
    ids = torch.tensor([[7, 3], [7, 3]])
    plain, compiled = Candidates.of(x, ids), Candidates.of(x, ids, compiled=True)
    for name in ("n", "ranks", "gone", "alive", "top_token"):
        assert torch.equal(getattr(compiled, name), getattr(plain, name)), name
    for name in ("probs", "entropy", "top_prob", "target_probs"):
        torch.testing.assert_close(getattr(compiled, name), getattr(plain, name), rtol=1e-12, atol=0)
    left, right = bounds(x, ids, compiled), bounds(x, ids, plain)
    for field in fields(left):
        one, other = getattr(left, field.name), getattr(right, field.name)
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-14, equal_nan=True)
    alone = Candidates.of(x[:1], ids[:1], compiled=True)  # nor do such rows change those beside them
    for name in ("probs", "entropy", "top_prob"):
        assert torch.equal(getattr(alone, name)[0], getattr(compiled, name)[0]), name


def test_a_row_of_which_nothing_is_left_has_no_probability() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    begun = Candidates.of(x, torch.tensor([[0], [1]]), compiled=True)
    gone = begun.rescored(x.masked_fill(x > 0, -torch.inf), keeps_order=False)
    assert gone.n.tolist() == [0, 2]
    assert not gone.probs[0].any() and bool(gone.top_prob[0].isnan()) and gone.probs[1].tolist() == [0.5, 0.5]


def test_masses_inside_masks() -> None:
    probs = torch.softmax(rows("normal", 9, VOCAB), -1)
    mask = torch.rand(9, VOCAB, generator=torch.Generator().manual_seed(1)) < 0.3
    np.testing.assert_allclose(held(probs.numpy(), mask.numpy()), (probs * mask).sum(-1), rtol=1e-13)


@pytest.mark.parametrize("spec", CHAINS)
@pytest.mark.parametrize("kind", KINDS)
def test_ledgers_and_bounds_are_the_same(spec: str, kind: str) -> None:
    x = rows(kind, 6, VOCAB)
    ids = targets(x)
    plain, compiled = Candidates.of(x, ids), Candidates.of(x, ids, compiled=True)
    chain = resolve(spec)
    one, other = (chain.run(x, ids, begun=begun) for begun in (plain, compiled))
    same(one, other)
    left, right = (bounds(x, ids, begun) for begun in (plain, compiled))
    for field in fields(left):
        torch.testing.assert_close(
            getattr(right, field.name), getattr(left, field.name), rtol=1e-11, atol=1e-13, equal_nan=True
        )


def same(one: Ledger, other: Ledger) -> None:
    assert torch.equal(one.kept, other.kept)
    for before, after in zip(one.records, other.records, strict=True):
        for name in TENSORS:
            left, right = getattr(before, name), getattr(after, name)
            torch.testing.assert_close(right, left, rtol=1e-11, atol=1e-12, equal_nan=True, msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [4, 40, 300, VOCAB, 64 * BLOCK + 5])
def test_the_first_tokens_are_those_of_a_stable_sort(kind: str, vocab: int) -> None:
    x = rows(kind, 9, vocab + 1)[:, 1:].float()  # one column of some kinds is never removed
    maxima = torch.stack([part.amax(-1) for part in torch.split(x, BLOCK, -1)], -1).numpy()
    count = min(LEADERS, vocab)
    found = Ordering(x, maxima).ahead
    assert torch.equal(found, x.sort(dim=-1, descending=True, stable=True).indices[:, :count])
    assert torch.equal(found, Ordering(x).ahead)
    begun = Candidates.of(x, x.argmax(-1, keepdim=True))
    expected = begun.kth(count)
    begun = Candidates.of(x, x.argmax(-1, keepdim=True))
    begun.led_by(found)
    assert torch.equal(begun.kth(count), expected)


def test_rows_do_not_depend_on_those_beside_them() -> None:
    x = rows("normal", 9, VOCAB)
    ids = targets(x)
    whole = Candidates.of(x, ids, compiled=True)
    for row in range(9):
        single = Candidates.of(x[row : row + 1], ids[row : row + 1], compiled=True)
        for name in ("probs", "entropy", "top_prob", "ranks", "target_probs"):
            assert torch.equal(getattr(whole, name)[row], getattr(single, name)[0]), name
