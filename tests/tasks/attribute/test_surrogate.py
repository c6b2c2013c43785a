"""The surrogate of random ablations: its LASSO, its subsets, and what it says of functions that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import elimtool
from elimtool import AttributeOptions
from elimtool.tasks.attribute.surrogate import PENALTY, cross_validated, lasso, log_odds, subsets


def test_few_parts_are_ablated_in_every_way() -> None:
    found = subsets(5, 64, seed=0)
    assert found.shape == (32, 5)
    assert len({row.tobytes() for row in found}) == 32
    assert found[0].tolist() == [False] * 5
    assert found[-1].tolist() == [True] * 5


def test_many_parts_are_drawn_without_repeats_by_the_seed() -> None:
    found = subsets(40, 64, seed=3)
    assert found.shape == (64, 40)
    assert len({row.tobytes() for row in found}) == 64
    assert 0.4 < found.mean() < 0.6
    assert (found == subsets(40, 64, seed=3)).all()
    assert not (found == subsets(40, 64, seed=4)).all()


@given(st.integers(2, 12), st.integers(0, 1000), st.floats(0.001, 0.5))
def test_the_lasso_meets_its_conditions(parts: int, seed: int, penalty: float) -> None:
    dice = np.random.default_rng(seed)
    design = dice.integers(0, 2, (48, parts)).astype(float)
    outcomes = design @ dice.normal(size=parts) + dice.normal(size=48)
    weights, level = lasso(design, outcomes, penalty)
    residual = outcomes - design @ weights - level
    pull = (design - design.mean(0)).T @ residual / 48
    threshold = penalty * outcomes.std()
    assert abs(residual.mean()) < 1e-8
    assert (np.abs(pull) <= threshold + 1e-6).all()
    used = weights != 0
    assert np.allclose(pull[used], np.sign(weights[used]) * threshold, atol=1e-6)


def test_a_linear_function_is_found_and_idle_parts_get_zero() -> None:
    design = subsets(8, 128, seed=0).astype(float)
    truth = np.array([3.0, -2.0, 0, 0, 1.0, 0, 0, 0.5])
    weights, level = lasso(design, design @ truth - 4)
    assert np.allclose(weights, truth, atol=0.15)
    assert (weights[[2, 3, 5, 6]] == 0).all()
    assert level == pytest.approx(-4, abs=0.2)
    fidelity, r2 = cross_validated(design, design @ truth - 4)
    assert fidelity is not None and fidelity > 0.99
    assert r2 is not None and r2 > 0.99
    assert PENALTY < 0.05


def test_what_no_linear_surrogate_can_follow_has_no_fidelity() -> None:
    design = subsets(10, 64, seed=0).astype(float)
    fidelity, r2 = cross_validated(design, design.sum(1) % 2)
    assert fidelity is not None and abs(fidelity) < 0.4
    assert r2 is not None and r2 < 0.1
    assert cross_validated(design[:8], design[:8, 0]) == (None, None)
    assert cross_validated(design, np.ones(64)) == (None, None)


def test_log_odds() -> None:
    p = torch.tensor([0.5, 0.9, 1e-6], dtype=torch.float64)
    assert torch.allclose(log_odds(p.log()), torch.log(p / (1 - p)))
    assert float(log_odds(torch.zeros(1, dtype=torch.float64))) == pytest.approx(27.6, abs=0.1)


def test_fidelity_is_reported(llama: Any) -> None:
    text = "The capital of France is Paris. The token is a text. No layer keeps it. The capital of Spain is"
    options = AttributeOptions(methods=("contextcite",), units="tokens", ablations=32)
    run = elimtool.attribute(llama, text, targets=["Madrid"], options=options)
    facts = run.table("attribution_methods").iloc[0]
    assert facts["samples"] == 32
    assert facts["n_forward_passes"] == 34
    assert -1 <= facts["fidelity"] <= 1
    assert facts["r2"] <= 1
    assert set(run.table("attributions")["score_unit"]) == {"logits"}
