"""Bounds and temperature ranges: at the bound the target survives, one step beyond it does not."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from elimtool.samplers import STAGES, Chain, History, resolve
from elimtool.samplers.survival import bounds, temperature_ranges
from tests.samplers.rows import KINDS, alone, rows

STEP = 1e-9


def lives(stage: str, x: torch.Tensor, token: int, **params: object) -> bool:
    ledger = alone(STAGES[stage](**params)).run(x, torch.tensor([[token]]))
    return bool(ledger.end.slots[0, 0] >= 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_round_trips(kind: str, seed: int) -> None:
    x = rows(kind, 1, 60, seed)
    alive = (x[0] > -torch.inf).nonzero()[:, 0].tolist()
    tokens = alive[:: max(1, len(alive) // 6)]
    b = bounds(x, torch.tensor([tokens]))
    for i, token in enumerate(tokens):
        best = x[0, token] == x.max()
        k = int(b.min_top_k[0, i])
        assert lives("top_k", x, token, k=k)
        assert k == 1 or not lives("top_k", x, token, k=k - 1)
        for name, param, bound in (("top_p", "p", b.min_top_p), ("typical", "mass", b.min_typical_p)):
            p = float(bound[0, i])
            assert p + STEP >= 1 or lives(name, x, token, **{param: p + STEP})
            assert p - STEP <= 0 or not lives(name, x, token, **{param: p - STEP})
        m = float(b.max_min_p[0, i])
        assert lives("min_p", x, token, p=m)
        assert m >= 1 or not lives("min_p", x, token, p=m * (1 + STEP))
        e = float(b.max_epsilon[0, i])
        assert lives("epsilon", x, token, epsilon=min(e, 0.999))
        assert best or not lives("epsilon", x, token, epsilon=e * (1 + STEP))
        n = float(b.min_top_n_sigma[0, i])
        assert n == 0 or lives("top_n_sigma", x, token, n=n)
        assert n == 0 or not lives("top_n_sigma", x, token, n=n * (1 - STEP))


def test_removed_targets_and_padding_have_no_bounds() -> None:
    x = torch.tensor([[1.0, -torch.inf, 0.0]])
    b = bounds(x, torch.tensor([[1, -1]]))
    assert b.min_top_k.tolist() == [[0, 0]]
    assert bool(b.min_top_p.isnan().all()) and bool(b.max_epsilon.isnan().all())


MONOTONE = [
    "hf:top_p=0.9,min_p=0.05",
    "vllm:min_p=0.05,top_p=0.9",
    "vllm:min_p=0.02,top_k=12,top_p=0.8",
    "sglang:top_k=10,top_p=0.5,min_p=0.05",
    "temperature=1,top_a=0.3,top_p=0.95",
    "temperature=1,top_p=0.9,top_k=8,min_p=0.01",
    "temperature=1,top_n_sigma=1.5,top_p=0.9",
    "temperature=1,epsilon=0.02",
    "temperature=1,top_k=20,epsilon=0.03,min_p=0.02",
    "llama.cpp",
    "temperature=1,greedy",
]  # fmt: skip


@pytest.mark.parametrize("spec", MONOTONE)
@pytest.mark.parametrize("seed", range(3))
def test_temperature_ranges_agree_with_the_chain_on_a_grid(spec: str, seed: int) -> None:
    x = rows("normal", 1, 60, seed) / 2
    targets = x.topk(25, -1).indices[:, ::3]
    chain = resolve(spec)
    ranges = temperature_ranges(chain, x, targets)
    grid = torch.logspace(-2, 2.5, 24).tolist()
    low, high = ranges.t_min[0], ranges.t_max[0]
    status = ranges.status[0]
    assert set(status) <= {"interval", "always", "never"}
    ends = [end * (1 + sign * 1e-6) for end in (*low.tolist(), *high.tolist()) for sign in (1, -1)]
    limit = 2.0 if "vllm" in spec else 1e6
    for t in [t for t in (*grid, *ends) if 0.01 < t <= limit]:
        survived = at_temperature(chain, t).run(x, targets).end.slots[0] >= 0
        inside = (low <= t) & (t <= high)
        expected = [
            {"always": True, "never": False}.get(w, bool(i)) for w, i in zip(status, inside, strict=True)
        ]
        assert survived.tolist() == expected, (t, status, low, high)


def at_temperature(chain: Chain, t: float) -> Chain:
    """The chain with its temperature set."""
    kinds = ("temperature", "dynamic_temperature")
    stages = tuple(replace(s, temperature=t) if s.kind in kinds else s for s in chain.stages)
    return replace(chain, stages=stages)


def test_closed_form_of_min_p() -> None:
    x = torch.tensor([[3.0, 1.0, -2.0]])
    ranges = temperature_ranges(resolve("temperature=1,min_p=0.1"), x, torch.tensor([[0, 1, 2]]))
    assert ranges.status == [["always", "interval", "interval"]]
    assert ranges.t_min[0].tolist() == pytest.approx([0.0, 2 / 2.302585093, 5 / 2.302585093])


def test_top_p_needs_a_share_above_uniform() -> None:
    """The third of four tokens needs p > 2/4: that much is in front of it even at infinite temperature."""
    x = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    ranges = temperature_ranges(resolve("temperature=1,top_p=0.49"), x, torch.tensor([[1, 2]]))
    assert ranges.status == [["interval", "never"]]


def test_nothing_is_claimed_where_survival_is_not_monotone() -> None:
    x = rows("normal", 1, 60, 3)
    targets = torch.tensor([[0, 1, 2, -1]])
    for spec in (
        "hf:typical=0.8",
        "temperature=1,eta=0.01",
        "temperature=1,xtc=1",
        "temperature=1,min_p=0.1,epsilon=0.01",
    ):
        ranges = temperature_ranges(resolve(spec), x, targets)
        assert set(ranges.status[0][:3]) <= {"not determined", "never"} and ranges.status[0][3] == ""
        assert bool(ranges.t_min.isnan().all())


def test_a_tie_leaves_other_targets_and_rows_alone() -> None:
    x = torch.tensor([[2.0, 2.0, 1.0, 0.0], [2.0, 1.5, 1.0, 0.0]])
    targets = torch.tensor([[0, 2], [0, 2]])
    chain = resolve("hf:top_p=0.9")
    together = temperature_ranges(chain, x, targets)
    alone = [temperature_ranges(chain, x[row : row + 1], targets[row : row + 1]) for row in (0, 1)]
    assert together.status == [one.status[0] for one in alone]
    assert together.status[0][0] == "not determined" and together.status[0][1] == "interval"
    assert together.t_min[1].tolist() == alone[1].t_min[0].tolist()


def test_chains_without_temperature_and_with_history() -> None:
    x = torch.tensor([[2.0, 1.9, 0.0]])
    targets = torch.tensor([[0, 1]])
    assert temperature_ranges(resolve("top_k=1"), x, targets).status == [["always", "never"]]
    chain = resolve("hf:repetition_penalty=1.5,top_k=1")
    assert temperature_ranges(chain, x, targets, [History((0,))]).status == [["never", "always"]]


def test_what_removes_without_being_a_truncation() -> None:
    x = torch.tensor([[2.0, 1.9, 0.0]])
    targets = torch.tensor([[0, 1]])
    assert temperature_ranges(resolve("temperature=1,logit_bias={0: 1}"), x, targets).status[0][0] == "always"
    banned = temperature_ranges(resolve("temperature=1,logit_bias={0: -.inf}"), x, targets)
    assert banned.status == [["not determined", "not determined"]]


def test_cheap_enough() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 49_152) * 3
    targets = torch.randint(0, 49_152, (1, 10))
    chains = [resolve(name) for name in ("llama.cpp", "hf", "vllm")]
    began = time.process_time()
    for chain in chains:
        temperature_ranges(chain, x, targets)
    assert time.process_time() - began < 1.0  # about 0.03 s; the bound is generous to busy machines
