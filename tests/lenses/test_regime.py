"""The regime of a position: p-values counted by hand, the order of the rules, when it abstains."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elimtool.lenses.regime import (
    FEWEST,
    REGIMES,
    Reference,
    classify,
    conformal,
    context_gain,
    recent_surprisal,
    regimes,
)


def test_p_values_count_the_value_itself() -> None:
    high, low = conformal(torch.tensor([1.0, 2.0, 2.0, 4.0]), torch.tensor([0.0, 2.0, 3.0, 9.0]))
    assert high.tolist() == [1.0, 0.8, 0.4, 0.2]
    assert low.tolist() == [0.2, 0.8, 0.8, 1.0]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.floats(-6, 6))
def test_p_values_are_valid_and_cover(reference: list[float], value: float) -> None:
    kept = torch.tensor(reference, dtype=torch.float64)
    high, low = conformal(kept, torch.tensor([value], dtype=torch.float64))
    n = len(reference)
    assert high.item() == (1 + sum(one >= value for one in reference)) / (1 + n)
    assert low.item() == (1 + sum(one <= value for one in reference)) / (1 + n)
    assert high.item() + low.item() >= 1


CASES = {
    "dysfunctional:OOD-confident": (0.5, 0.025, 1.0, 9.0),
    "dysfunctional:OOD-diffuse": (0.49, 0.025, 1.0, 0.0),
    "dysfunctional:resonant": (0.9, 1.0, 0.025, 9.0),
    "strong": (0.5, 0.026, 0.026, 0.0),
    "dysfunctional:weak-signal": (0.49, 0.5, 0.5, 1.99),
    "balanced": (0.49, 0.5, 0.5, 2.0),
}


@pytest.mark.parametrize("name", CASES)
def test_rules_in_their_order(name: str) -> None:
    agreement, high, low, gain = CASES[name]
    assert classify(agreement, high, low, gain, 2.0) == name
    assert name in REGIMES


def test_context_gain_is_a_divergence_from_the_prior() -> None:
    prior = torch.tensor([0.5, 0.25, 0.25])
    rows = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])
    gain = context_gain(rows.log(), prior.log())
    assert gain.tolist() == pytest.approx([0.0, math.log(2), 0.25 * math.log(2)], abs=1e-6)


def test_recent_surprisal_is_the_mean_of_thirty_two() -> None:
    surprisal = torch.tensor([math.nan, *range(40)])
    recent = recent_surprisal(surprisal)
    assert recent[:32].isnan().all()
    assert recent[32] == sum(range(32)) / 32
    assert recent[40] == sum(range(8, 40)) / 32
    assert recent_surprisal(surprisal[:10]).isnan().all()


def test_it_abstains_without_enough_reference_or_enough_tokens() -> None:
    prior = torch.tensor([0.25] * 4).log()
    logprobs = torch.tensor([[0.97, 0.01, 0.01, 0.01]] * 3).log()
    recent = torch.tensor([math.nan, 1.0, 99.0])
    enough = Reference(torch.linspace(0.5, 2, FEWEST), prior, 0.1)
    assert regimes(enough, logprobs, recent) == ["abstain", "strong", "dysfunctional:OOD-confident"]
    few = Reference(enough.surprisal[1:], prior, 0.1)
    assert regimes(few, logprobs, recent) == ["abstain"] * 3
    assert regimes(None, logprobs, recent) == ["abstain"] * 3
