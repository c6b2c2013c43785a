"""Properties of every chain, on random distributions."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elimtool.samplers import STAGES, Chain, resolve
from tests.samplers.rows import KINDS, alone, example, rows

TRUNCATING = [k for k, s in STAGES.items() if s.role == "truncate" and k not in ("greedy",)]
PREFIX = [k for k in TRUNCATING if k not in ("typical", "xtc")]
SETTINGS = [
    ("top_k", 3, 9),
    ("top_p", 0.3, 0.8),
    ("min_p", 0.5, 0.1),
    ("typical", 0.2, 0.7),
    ("eta", 0.25, 0.01),
]
SETTINGS += [("epsilon", 0.1, 0.01), ("top_n_sigma", 0.5, 1.5), ("top_a", 0.9, 0.2), ("top_h", 0.3, 0.8)]
PAIRS = [(name, resolve(f"{name}={strict}"), resolve(f"{name}={lax}")) for name, strict, lax in SETTINGS]
kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 10_000)
vocabularies = st.integers(4, 300)


def chain_of(names: list[str]) -> Chain:
    return Chain("+".join(names), "test", "", tuple(example(n) for n in names))


def none(n: int) -> torch.Tensor:
    return torch.zeros((n, 0), dtype=torch.int64)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(TRUNCATING), min_size=1, max_size=5), kinds, seeds, vocabularies)
def test_the_ledger_closes_and_sets_nest(names: list[str], kind: str, seed: int, vocab: int) -> None:
    x = rows(kind, 3, vocab, seed)
    ledger = chain_of(names).run(x, none(3))
    kept = x > -torch.inf
    whole = torch.ones(3, dtype=torch.float64)
    for entry in ledger.records:
        given_probs = torch.softmax(x.masked_fill(~kept, -torch.inf), -1)
        assert torch.allclose(
            given_probs.where(entry.removed_mask, 0.0).sum(-1), entry.mass_pruned, atol=1e-9
        )
        assert not bool((entry.removed_mask & ~kept).any())
        kept = kept & ~entry.removed_mask
        left = given_probs.where(kept, 0.0).sum(-1)
        assert torch.allclose(left + entry.mass_pruned, whole, atol=1e-9)
        assert torch.equal(kept.sum(-1), entry.n_after)
        assert bool(kept.any(-1).all())
    assert torch.equal(ledger.kept, kept)
    assert torch.allclose(ledger.probs().sum(-1), whole)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TRUNCATING), kinds, seeds, vocabularies, st.sampled_from([-64.0, -0.5, 8.0, 1024.0]))
def test_a_constant_changes_nothing(name: str, kind: str, seed: int, vocab: int, constant: float) -> None:
    x = (rows(kind, 3, vocab, seed) * 1024).round() / 1024  # so that the sum is exact
    a = alone(example(name)).run(x, none(3))
    b = alone(example(name)).run(x + constant, none(3))
    assert torch.equal(a.kept, b.kept)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PREFIX), kinds, seeds, vocabularies)
def test_prefix_stages_keep_the_most_probable(name: str, kind: str, seed: int, vocab: int) -> None:
    x = rows(kind, 3, vocab, seed)
    kept = alone(example(name)).run(x, none(3)).kept
    worst_kept = x.masked_fill(~kept, torch.inf).amin(-1)
    best_gone = x.masked_fill(kept, -torch.inf).amax(-1)
    assert bool((worst_kept >= best_gone).all())


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["top_k", "top_p", "min_p", "typical", "epsilon", "eta", "top_n_sigma", "top_a"]), seeds
)
def test_default_rules_do_not_depend_on_token_ids(name: str, seed: int) -> None:
    x = rows("ties", 2, 60, seed)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    kept = alone(example(name)).run(x, none(2)).kept
    assert torch.equal(alone(example(name)).run(x[:, order], none(2)).kept, kept[:, order])


@settings(max_examples=20, deadline=None)
@given(kinds, seeds)
def test_a_stricter_setting_keeps_a_subset(kind: str, seed: int) -> None:
    x = rows(kind, 2, 50, seed)
    for name, strict, lax in PAIRS:
        a, b = (chain.run(x, none(2)).kept for chain in (strict, lax))
        assert not bool((a & ~b).any()), name


def test_order_matters_and_is_recorded() -> None:
    x = rows("normal", 1, 500, 4)
    first = resolve("temperature=3,min_p=0.1").run(x, none(1))
    second = resolve("min_p=0.1,temperature=3").run(x, none(1))
    assert first.kept.sum() > second.kept.sum()
    assert [r.stage for r in first.records] == ["temperature", "min_p"]
    assert [r.stage for r in second.records] == ["min_p", "temperature"]
    assert not bool(second.records[0].margin.numel())


def test_low_temperature_is_greedy() -> None:
    x = rows("normal", 5, 50, 2)
    probs = resolve("temperature=0.0001").run(x, none(5)).probs()
    assert torch.equal(probs.argmax(-1), x.argmax(-1)) and bool((probs.amax(-1) > 0.999).all())
    assert torch.equal(resolve("temperature=0").run(x, none(5)).kept, resolve("greedy").run(x, none(5)).kept)
