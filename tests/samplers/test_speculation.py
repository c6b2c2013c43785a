"""Acceptance of drafted tokens: against transformers' own sampling, by simulation, by exact identities."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from transformers.generation.utils import _speculative_sampling

from elimtool.errors import ElimError
from elimtool.samplers.speculation import Acceptance, judge, judge_block, reached, residual

P = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.05, 0.05], dtype=torch.float64)
Q = torch.tensor([0.1, 0.4, 0.3, 0.1, 0.1, 0.0], dtype=torch.float64)
DRAWS = 20_000
THEIRS = 1_000
"""Draws of transformers, which verifies one block a call."""


def by_rule(p: Tensor, q: Tensor, token: int, weight: float = 0.5) -> dict[str, Acceptance]:
    leaders = q.topk(4).indices.tolist()
    return {one.rule: one for one in judge(p, q, token, leaders, weight)}


def probs(seed: int, size: int = 6, zeros: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    row = torch.rand(size, generator=random, dtype=torch.float64) ** 3
    row[torch.randperm(size, generator=random)[:zeros]] = 0
    return row / row.sum()


def test_alpha_of_one_pair_by_hand():
    found = by_rule(P, Q, 1)
    assert found["standard"].alpha == pytest.approx(0.1 + 0.2 + 0.1 + 0.1 + 0.05)
    assert found["match"].alpha == pytest.approx(0.05 + 0.08 + 0.03 + 0.01 + 0.005)
    assert found["greedy"].alpha == pytest.approx(0.1)  # only token 0 is the target's best
    assert found["siblings"].alpha == pytest.approx(P[Q.topk(4).indices].sum())
    assert found["ensemble"].alpha == pytest.approx(
        float(Q @ (0.5 + 0.5 * P / Q.clamp(min=1e-9)).clamp(max=1))
    )


def test_a_greedy_draft_is_accepted_as_often_as_the_target_draws_its_token():
    one = torch.nn.functional.one_hot(torch.tensor(1), 6).double()
    found = by_rule(P, one, 1)
    assert [found[rule].alpha for rule in ("standard", "match")] == pytest.approx([0.2, 0.2])
    assert torch.allclose(found["standard"].residual, found["match"].residual)


@given(st.integers(0, 10**6))
def test_what_a_lossless_rule_emits_is_the_targets_distribution(seed: int):
    p, q = probs(seed), probs(seed + 1)
    support = q.nonzero()[:, 0].tolist()
    found = {token: by_rule(p, q, token) for token in support}
    for rule in ("standard", "match"):
        emitted = torch.zeros_like(p)
        for token in support:
            one = found[token][rule]
            emitted[token] += q[token] * one.accept
            emitted += q[token] * (1 - one.accept) * one.residual
        assert torch.allclose(emitted, p, atol=1e-12), rule
        assert found[support[0]][rule].bias == 0
    for rule, one in found[support[0]].items():
        assert one.alpha == pytest.approx(sum(float(q[t]) * found[t][rule].accept for t in support)) or (
            rule == "siblings"  # which is offered more than the token drawn
        )


@given(st.integers(0, 10**6))
def test_the_standard_rule_is_symmetric_complete_on_itself_and_blind_to_what_does_not_overlap(seed: int):
    p, q = probs(seed), probs(seed + 1)
    one, other = by_rule(p, q, int(q.argmax()))["standard"], by_rule(q, p, int(p.argmax()))["standard"]
    assert one.alpha == pytest.approx(other.alpha)
    assert by_rule(p, p, int(p.argmax()))["standard"].alpha == pytest.approx(1)
    apart = torch.cat([p, torch.zeros_like(p)]), torch.cat([torch.zeros_like(q), q])
    nothing = by_rule(*apart, len(p) + int(q.argmax()))["standard"]
    assert nothing.alpha == 0 and torch.allclose(nothing.residual, apart[0])
    assert torch.all(residual(p, q)[p <= q] == 0) or torch.equal(residual(p, q), p)


@pytest.mark.parametrize(("rule", "weight"), [("standard", None), ("ensemble", 0.5)])
def test_transformers_accepts_and_emits_as_often(rule: str, weight: float | None):
    torch.manual_seed(0)
    emitted, accepted = torch.zeros(6, dtype=torch.float64), 0
    draft, target = Q.log()[None, None], torch.stack([P, P]).log()[None]
    for token in torch.multinomial(Q, THEIRS, replacement=True).tolist():
        valid, n = _speculative_sampling(torch.tensor([[token]]), draft, 1, target, weight)
        emitted[valid[0, 0]] += 1
        accepted += int(n)
    found = [by_rule(P, Q, token, weight or 1.0)[rule] for token in range(5)]
    alpha = found[0].alpha
    expected = Q * torch.tensor([*(one.accept for one in found), 0.0], dtype=torch.float64)
    expected = expected + (1 - alpha) * found[0].residual
    assert chisquare(emitted.numpy(), (expected * THEIRS).numpy()).pvalue > 0.001
    assert abs(accepted / THEIRS - alpha) < 4 * (alpha * (1 - alpha) / THEIRS) ** 0.5
    assert found[0].bias == pytest.approx(float((expected - P).abs().sum() / 2), abs=1e-9)


def simulated(ps: Sequence[Tensor], qs: Sequence[Tensor], rule: str) -> tuple[Tensor, float]:
    """Draw and verify blocks of two tokens; count the first two emitted tokens, and the mean accepted length.

    The distributions do not depend on the tokens before: the target's joint one is their product.
    """
    random = torch.Generator().manual_seed(1)
    counts, length = torch.zeros(6, 6, dtype=torch.float64), 0
    drafted = torch.stack([torch.multinomial(q, DRAWS, replacement=True, generator=random) for q in qs], 1)
    for pair, n in zip(*(one.tolist() for one in drafted.unique(dim=0, return_counts=True)), strict=True):
        judged = [by_rule(p, q, token)["standard"] for p, q, token in zip(ps, qs, pair, strict=True)]
        judged = judge_block(ps, qs, pair) if rule == "block" else judged
        passes = torch.rand(n, 2, generator=random) <= torch.tensor([one.accept for one in judged])
        first, second = passes.unbind(1)
        kept = (
            torch.where(second, 2, first.int()) if rule == "block" else first.int() + (first & second).int()
        )
        length += int(kept.sum())
        ratios = [1.0] + [float(p[t] / q[t]) for p, q, t in zip(ps, qs, pair, strict=True)]
        for size in range(3):
            times = int((kept == size).sum())
            scale = 1.0
            for ratio in ratios[1 : size + 1] if rule == "block" else ():
                scale = min(1.0, scale * ratio)
            parts = [torch.full((times,), token) for token in pair[:size]]
            if size < 2 and times:
                rest = residual(ps[size], qs[size], scale)
                parts.append(torch.multinomial(rest, times, replacement=True, generator=random))
            if size == 0 and times:
                parts.append(torch.multinomial(ps[1], times, replacement=True, generator=random))
            if times:
                counts.index_put_(tuple(parts), torch.tensor(1.0, dtype=torch.float64), accumulate=True)
    return counts, length / DRAWS


@pytest.mark.parametrize("rule", ["standard", "block"])
def test_emitted_tokens_are_distributed_as_the_targets_chain(rule: str):
    ps, qs = [P, P.flip(0)], [Q, Q]
    counts, _ = simulated(ps, qs, rule)
    expected = torch.outer(*ps) * DRAWS
    assert chisquare(counts.flatten().numpy(), expected.flatten().numpy()).pvalue > 0.001


def test_a_block_accepts_more_tokens_than_one_by_one_and_as_many_as_predicted():
    ps, qs = [P, P.flip(0)], [Q, Q]
    lengths = {rule: simulated(ps, qs, rule)[1] for rule in ("standard", "block")}
    assert lengths["block"] > lengths["standard"]
    predicted = 0.0
    for first in range(5):
        for second in range(5):
            weight = float(Q[first] * Q[second])
            predicted += weight * sum(reached(judge_block(ps, qs, [first, second])))
    assert lengths["block"] == pytest.approx(predicted, abs=0.02)


def test_products_of_acceptance():
    steps = [Acceptance("standard", accept, accept, P, 0.0) for accept in (0.5, 0.5, 0.0)]
    assert reached(steps) == [0.5, 0.25, 0.0]
    assert reached([]) == []


def test_what_the_draft_cannot_propose_is_refused():
    with pytest.raises(ElimError, match="cannot propose token 5"):
        judge(P, Q, 5, [1], 0.5)
    for weight in (0.0, 1.5):
        with pytest.raises(ElimError, match="`weight` must be above 0"):
            judge(P, Q, 1, [1], weight)
