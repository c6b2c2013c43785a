"""Newer stages against their papers' and engines' formulas, written out here token by token."""

from __future__ import annotations

from math import exp, floor, inf, log

import pytest
import torch

from elimtool.samplers import STAGES, Chain, Stage, resolve
from tests.samplers.rows import KINDS, alone, rows
from tests.samplers.ways import both_ways

NONE = torch.zeros((1, 0), dtype=torch.int64)
GRID = [(kind, vocab) for kind in KINDS for vocab in (8, 60)]


def kept(stage: Stage, x: torch.Tensor) -> list[set[int]]:
    mask = both_ways(alone(stage), x, NONE.expand(len(x), 0)).kept
    return [set(row.nonzero()[:, 0].tolist()) for row in mask]


def probabilities(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [exp(one - top) for one in logits]
    return [one / sum(weights) for one in weights]


@pytest.mark.parametrize(("kind", "vocab"), GRID)
def test_p_less_keeps_what_reaches_the_sum_of_squares(kind: str, vocab: int) -> None:
    x = rows(kind, 40, vocab, vocab)
    found, relaxed = kept(STAGES["p_less"](), x), kept(STAGES["p_less"](norm=True), x)
    for row, (strict, lax) in enumerate(zip(found, relaxed, strict=True)):
        p = probabilities(x[row].tolist())
        agree = sum(one * one for one in p)
        normed = (vocab * agree - 1) / (vocab - 1)
        # ties with the threshold are decided by rounding, which differs between two sums
        assert all(abs(p[i] - agree) < 1e-12 for i in strict ^ {i for i, one in enumerate(p) if one >= agree})
        wanted = {i for i, one in enumerate(p) if one >= normed and x[row, i] > -inf}
        assert all(abs(p[i] - normed) < 1e-12 for i in lax ^ wanted)
        assert {i for i, one in enumerate(p) if one == max(p)} <= strict <= lax


def test_p_less_grows_stricter_as_temperature_falls() -> None:
    x = rows("normal", 30, 100, 3)
    bounds = [
        alone(STAGES["p_less"]()).run(x / t, NONE.expand(30, 0)).records[0].threshold for t in (2, 1, 0.5)
    ]
    assert bool((bounds[0] < bounds[1]).all()) and bool((bounds[1] < bounds[2]).all())


def test_the_slack_of_llama_cpps_request_keeps_more_of_a_nearly_flat_row() -> None:
    x = rows("nearly flat", 1, 20_000, 1) * 50
    strict, lax = kept(STAGES["p_less"](), x)[0], kept(STAGES["p_less"](slack=1e-5), x)[0]
    assert strict < lax


def cliff(logits: list[float], tau: float) -> int:
    """Number of ranks that min-k keeps, by the paper's formula."""
    falling = sorted((one for one in logits if one > -inf), reverse=True)
    span = falling[0] - falling[-1]
    if span == 0:
        return len(falling)
    drops = [(falling[i] - falling[i + 1]) / (span * (i + 1)) for i in range(len(falling) - 1)]
    return max(drops.index(max(drops)) + 1, min(floor(tau / span), len(falling)), 1)


@pytest.mark.parametrize("tau", [0.0, 3.0])
@pytest.mark.parametrize(("kind", "vocab"), GRID)
def test_min_k_cuts_at_the_cliff(kind: str, vocab: int, tau: float) -> None:
    x = rows(kind, 40, vocab, vocab)
    for row, found in enumerate(kept(STAGES["min_k"](tau=tau), x)):
        logits = x[row].tolist()
        edge = sorted(logits, reverse=True)[cliff(logits, tau) - 1]
        assert found == {i for i, one in enumerate(logits) if one >= edge}


def test_min_k_without_fallback_sees_neither_scale_nor_shift() -> None:
    x = rows("normal", 50, 80, 2)
    plain = kept(STAGES["min_k"](tau=0.0), x)
    assert plain == kept(STAGES["min_k"](tau=0.0), x * 0.25 - 3)
    assert plain != kept(STAGES["min_k"](tau=3.0), x * 0.01)


@pytest.mark.parametrize("curve", [0.0, 1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("kind", KINDS)
def test_quadratic_bends_as_text_generation_webui_does(kind: str, curve: float) -> None:
    x, factor = rows(kind, 20, 40, 5), 0.4
    d = x - x.amax(-1, keepdim=True)
    k, s = (3 - curve) / 2, (curve - 1) / 2
    wanted = torch.where(
        x > -inf, -(k * factor * d**2) + s * factor * d**3 + x.amax(-1, keepdim=True), torch.tensor(-inf)
    )
    ledger = alone(STAGES["quadratic"](factor=factor, curve=curve)).run(x, NONE.expand(20, 0))
    assert torch.allclose(ledger.final, wanted, rtol=1e-12, atol=1e-12)
    assert bool(ledger.records[0].notes) == (curve in (0.0, 4.0))


def test_quadratic_keeps_or_changes_the_best_token_as_its_page_says() -> None:
    x = torch.tensor([[2.0, 1.9, -9.0]], dtype=torch.float64)
    best = {}
    for curve in (0.0, 1.0, 3.0, 4.0):
        ledger = alone(STAGES["quadratic"](factor=1.0, curve=curve)).run(x, NONE)
        best[curve] = ledger.end.top_token.item()
    assert best == {0.0: 2, 1.0: 0, 3.0: 0, 4.0: 1}  # far ones under 1, those just below the best over 3


def test_quadratic_shrinks_gaps_under_one_over_factor() -> None:
    x = torch.tensor([[3.0, 2.0, -3.0]], dtype=torch.float64)
    final = alone(STAGES["quadratic"](factor=0.5)).run(x, NONE).final[0]
    assert final[0] - final[1] < 1 and final[0] - final[2] > 6


class Adaptive:
    """Adaptive-p as the engines keep it: two sums, updated with the chosen token's probability."""

    def __init__(self, target: float, decay: float) -> None:
        self.target, self.decay = target, decay
        self.total, self.weight = target / (1 - decay), 1 / (1 - decay)

    def scores(self, p: list[float]) -> list[float]:
        aim = min(max(2 * self.target - self.total / self.weight, 0), 1)
        away = [abs(one - aim) / 0.3 for one in p]
        return [5 - 10 * d * d / (1 + d) for d in away]

    def accept(self, p: float) -> None:
        self.total, self.weight = p + self.decay * self.total, 1 + self.decay * self.weight


@pytest.mark.parametrize(("target", "decay"), [(0.1, 0.9), (0.5, 0.5), (0.9, 0.0), (0.0, 0.99)])
def test_adaptive_p_follows_the_text_as_the_engines_do(target: float, decay: float) -> None:
    chain = Chain("two", stages=(STAGES["top_k"](k=6), STAGES["adaptive_p"](target=target, decay=decay)))
    engine, state = Adaptive(target, decay), chain.start(1)
    for step in range(12):
        x = rows("normal", 1, 40, step)
        ledger = chain.run(x, NONE, state=state)
        left = ledger.kept[0].nonzero()[:, 0].tolist()
        p = probabilities([float(x[0, i]) for i in left])
        assert ledger.final[0, left].tolist() == pytest.approx(engine.scores(p), abs=1e-9)
        assert len(left) == 6 and ledger.records[1].mass_pruned.item() == 0
        chosen = step % len(left)
        engine.accept(p[chosen])
        state = chain.accept(state, ledger, torch.tensor([left[chosen]]))


def test_adaptive_p_prefers_the_improbable_where_the_target_is_low() -> None:
    ledger = resolve("top_k=5,adaptive_p=0.1").run(rows("normal", 1, 40, 1), NONE)
    assert ledger.end.top_token.item() != ledger.before(0).top_token.item()


def authors_top_h(logits: list[float], h: float) -> set[int]:
    """What the authors' loop keeps: it looks one token ahead, and stops where the next passes the bound."""
    p = probabilities(logits)
    best = sorted(range(len(p)), key=lambda i: -p[i])[:100]
    terms = [-p[i] * log(p[i]) if p[i] else 0.0 for i in best]
    found, held = [], terms[0]
    for place, token in enumerate(best):
        found.append(token)
        held += terms[place + 1] if place + 1 < len(best) else inf
        if held > h * sum(terms):
            break
    return set(found)


def test_top_h_both_ways() -> None:
    x = rows("normal", 60, 500, 7) * 0.5
    ours = kept(STAGES["top_h"](h=0.4, probs="whole"), x)
    for row, found in enumerate(ours):
        assert found == authors_top_h(x[row].tolist(), 0.4)
    assert ours != kept(STAGES["top_h"](h=0.4), x)
