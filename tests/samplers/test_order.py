"""The quick ways through a row against the plain ones: sorts, masks and sums of whole rows."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from elimtool.numerics.ranking import largest
from elimtool.samplers import STAGES, resolve
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.compare import Ordering, compare
from elimtool.samplers.distribution import LEADERS
from elimtool.samplers.order import count_larger, held_below, leaders, softmax, sum_products
from elimtool.samplers.survival import bounds
from tests.samplers.rows import KINDS, alone, rows

WIDE = 9_000
"""Wide enough for a row to be folded before its largest values are sorted."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [4, 300, WIDE])
def test_largest_values_are_those_of_a_sort(kind: str, vocab: int) -> None:
    x = rows(kind, 3, vocab)
    falling = x.sort(-1, descending=True)
    stable = x.sort(dim=-1, descending=True, stable=True).indices.numpy()
    for count in (1, 5, LEADERS, LEADERS + 1, vocab - 1, vocab, vocab + 3):
        assert torch.equal(largest(x, count), falling.values[:, :count])
        for row, values in enumerate(x.numpy()):
            assert leaders(values, count).tolist() == stable[row, :count].tolist()
    assert leaders(np.zeros(0), 5).tolist() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [7, WIDE])
def test_counts_and_sums(kind: str, vocab: int) -> None:
    x = rows(kind, 3, vocab)
    some = x[:, [0, 1, 3, 1]]
    assert torch.equal(count_larger(x, some), (x[:, None] > some[:, :, None]).sum(-1))
    assert count_larger(x, some[:, :0]).shape == (3, 0)
    mask = x > 0
    probs = torch.softmax(x, -1)
    alive = x > -torch.inf
    found = sum_products(probs, mask.double(), alive)
    assert torch.allclose(found, (probs * mask).sum(-1), rtol=1e-13)
    beside = torch.cat([x, x.new_full((3, WIDE), -torch.inf)], 1)  # as wide as another row may make them
    padded = [torch.nn.functional.pad(one, (0, WIDE)) for one in (probs, mask.double(), alive)]
    assert torch.equal(sum_products(*padded), found)
    assert torch.equal(softmax(beside, padded[2])[:, :vocab], softmax(x, alive))
    assert torch.allclose(softmax(x, alive), probs, rtol=1e-13)
    for values, weights, bound in zip(x.numpy(), probs.numpy(), some.numpy(), strict=True):
        expected = [weights[values < one].sum() for one in bound]
        assert held_below(values, weights, bound) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert held_below(values, weights, bound[:0]).shape == (0,)


def test_more_bounds_than_a_byte_can_count() -> None:
    values = np.random.default_rng(0).normal(size=2_000)
    weights = np.ones(2_000)
    bound = np.sort(values)[::5]
    assert held_below(values, weights, bound).tolist() == list(range(0, 2_000, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [4, WIDE])
@pytest.mark.parametrize("ties", ["all", "exact"])
def test_top_k_by_partial_selection(kind: str, vocab: int, ties: str) -> None:
    """At tied k-th places, for k above the survivors, and with removed columns."""
    x = rows(kind, 3, vocab)
    order = x.sort(dim=-1, descending=True, stable=True)
    for k in (1, LEADERS, LEADERS + 1, vocab + 1):
        ledger = alone(STAGES["top_k"](k=k, ties=ties)).run(x, order.indices[:, :3])
        last = order.values[:, min(k, vocab) - 1 :][:, :1]
        expected = x >= last
        if ties == "exact":
            expected = torch.zeros_like(expected).scatter_(1, order.indices[:, :k], True)
        expected &= x > -torch.inf
        assert torch.equal(ledger.kept, expected)
        entry = ledger.records[0]
        best_removed = x.masked_fill(expected, -torch.inf).amax(-1, keepdim=True)
        mine = x.gather(1, order.indices[:, :3])
        lives = expected.gather(1, order.indices[:, :3])
        margin = torch.where(lives, mine - best_removed, mine - last).nan_to_num(-torch.inf, torch.inf)
        assert entry.margin[~lives & (mine == -torch.inf)].isnan().all()
        assert torch.equal(entry.margin[mine > -torch.inf], margin[mine > -torch.inf])
        assert torch.equal(entry.rank_before, ranks(x, mine))
        lost = torch.softmax(x, -1).masked_fill(expected, 0).sum(-1)
        assert torch.allclose(entry.mass_pruned, lost, rtol=1e-12, atol=1e-15)


def ranks(x: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Strict ranks by comparing everything, 0 for a removed token."""
    found = (x[:, None] > scores[:, :, None]).sum(-1) + 1
    return found.masked_fill(scores == -torch.inf, 0)


def test_a_vocabulary_of_one_token() -> None:
    x, targets = torch.tensor([[2.5]]), torch.tensor([[0, -1]])
    for name in ("llama.cpp", "hf", "vllm", "top_k=1,greedy", "top_p=0.5,typical=0.5"):
        ledger = resolve(name).run(x, targets)
        assert ledger.kept.tolist() == [[True]] and (ledger.end.slots >= 0).tolist() == [[True, False]]
    found = bounds(x, targets)
    assert found.min_top_k.tolist() == [[1, 0]] and found.min_top_p[0, 0] == 0
    assert found.min_typical_p[0, 0] == 0 and found.max_min_p[0, 0] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_are_masses_of_masks(kind: str) -> None:
    x = rows(kind, 3, WIDE)
    targets = torch.tensor([[1, 5, 17, 400, -1, 1]]).expand(3, -1)
    found = bounds(x, targets)
    probs = torch.softmax(x, -1)
    for row, column in torch.isfinite(x.gather(1, targets.clamp(min=0))).nonzero().tolist():
        token = int(targets[row, column])
        if token < 0:
            assert bool(found.min_top_p[row, column].isnan())
            continue
        expected = float(probs[row, x[row] > x[row, token]].sum())
        assert float(found.min_top_p[row, column]) == pytest.approx(expected, rel=1e-11, abs=1e-15)
        surprise = torch.where(x[row] > -torch.inf, probs[row].log().neg(), torch.inf)
        entropy = torch.special.entr(probs[row]).sum()
        shift = (surprise - entropy).abs()
        expected = float(probs[row, shift < shift[token] - 1e-9].sum())
        loose = float(probs[row, shift < shift[token] + 1e-9].sum())
        assert expected - 1e-11 <= float(found.min_typical_p[row, column]) <= loose + 1e-11


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [7, WIDE])
def test_what_comes_after_the_largest(kind: str, vocab: int) -> None:
    x = rows(kind, 3, vocab)
    falling = torch.cat([x.sort(descending=True).values, torch.full((3, 1), -torch.inf, dtype=x.dtype)], 1)
    c = Candidates.of(x, torch.zeros((3, 0), dtype=torch.int64))
    for counts in ([0, 1, 2], [5, 0, vocab], [vocab, min(100, vocab), 3], [vocab] * 3):
        count = torch.tensor(counts)
        for some in (c, c.sorted()):
            width = torch.minimum(count, torch.tensor(vocab))
            assert torch.equal(some.after(count.clamp(max=some.width)), falling.gather(1, width[:, None]))


@pytest.mark.parametrize("kind", KINDS)
def test_differences_are_those_of_whole_rows(kind: str) -> None:
    x = rows(kind, 3, WIDE)
    none = torch.zeros((3, 0), dtype=torch.int64)
    names = ("llama.cpp", "hf", "vllm", "temperature=2,top_p=0.9", "greedy")
    ledgers = [resolve(name).run(x, none) for name in names]
    for left, right in combinations(ledgers, 2):
        found = compare(left, right)
        apart = 0.5 * (left.probs() - right.probs()).abs().sum(-1)
        assert torch.allclose(found.total_variation, apart, rtol=1e-12, atol=1e-15)
        sides = [
            [(one.kept[row] & ~other.kept[row]).nonzero()[:, 0] for row in range(3)]
            for one, other in ((left, right), (right, left))
        ]
        for ids, n in zip(sides, (found.n_only_left, found.n_only_right), strict=True):
            assert n.tolist() == [len(own) for own in ids]
        finite = x.float().nan_to_num(neginf=-9e9)
        for own in (finite, -finite):  # the second calls the likely tokens bad: none of its best survives
            for best, ids in zip(found.first(Ordering(own), 5), sides, strict=True):
                for row in range(3):
                    order = own[row][ids[row]].sort(descending=True, stable=True).indices[:5]
                    assert [token for token in best[row].tolist() if token >= 0] == ids[row][order].tolist()


def test_equal_results_are_not_apart() -> None:
    x = rows("normal", 3, WIDE)
    none = torch.zeros((3, 0), dtype=torch.int64)
    one, other = (resolve(name).run(x, none) for name in ("top_k=40", "top_k=40,min_p=0"))
    assert compare(one, other).total_variation.tolist() == [0, 0, 0]


def test_one_column_is_found_by_its_token() -> None:
    x = torch.tensor([[1.0, -torch.inf, 3.0, 2.0]], dtype=torch.float64)
    c = Candidates.of(x, torch.tensor([[0]]))
    assert [c.column(token, 0) for token in range(4)] == [0, None, 2, 3]
    best = c.sorted().keep(torch.tensor([[True, True, False]]))
    assert [best.column(token, 0) for token in range(4)] == [None, None, 0, 1]


def test_nothing_left_is_no_distribution() -> None:
    ledger = resolve("logit_bias={0: -.inf}").run(torch.tensor([[2.5]]), torch.tensor([[0]]))
    entry = ledger.records[0]
    assert int(entry.n_after) == 0 and bool(entry.top_prob.isnan()) and bool(entry.entropy_after.isnan())
