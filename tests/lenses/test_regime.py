"""The regime of a position: p-values counted by hand, the order of the rules, when it abstains."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elimtool.lenses.regime import (
    ABSTAIN,
    FEWEST,
    LEAST,
    REGIMES,
    WINDOW,
    Recent,
    ReferenceStatistics,
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
    "dysfunctional:OOD-confident": (0.5, 0.025, 1.0, 9.0, 1.0),
    "dysfunctional:OOD-diffuse": (0.49, 0.025, 1.0, 0.0, 1.0),
    "dysfunctional:resonant": (0.9, 1.0, 0.025, 9.0, 0.5),
    "familiar": (0.9, 1.0, 0.025, 9.0, 0.49),
    "strong": (0.5, 0.026, 0.026, 0.0, 1.0),
    "dysfunctional:weak-signal": (0.49, 0.5, 0.5, 1.99, 1.0),
    "balanced": (0.49, 0.5, 0.5, 2.0, 1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_rules_in_their_order(name: str) -> None:
    agreement, high, low, gain, repetition = CASES[name]
    assert classify(agreement, high, low, gain, 2.0, repetition) == name
    assert name in REGIMES


def test_without_an_n_gram_nothing_is_a_repetition() -> None:
    assert classify(0.9, 1.0, 0.001, 9.0, 2.0, math.nan) == "familiar"


def test_context_gain_is_a_divergence_from_the_prior() -> None:
    prior = torch.tensor([0.5, 0.25, 0.25])
    rows = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])
    gain = context_gain(rows.log(), prior.log())
    assert gain.tolist() == pytest.approx([0.0, math.log(2), 0.25 * math.log(2)], abs=1e-6)


def test_recent_surprisal_is_the_mean_of_thirty_two_or_of_those_there_are() -> None:
    surprisal = torch.tensor([math.nan, 99.0, *range(40)])
    recent = recent_surprisal(range(len(surprisal)), surprisal)
    assert recent.mean[:2].isnan().all()
    assert recent.n.tolist() == [0, 0, *range(1, 33), *[32] * 8]
    assert recent.opening.tolist() == [True] * 34 + [False] * 8
    assert recent.mean[2].item() == 0
    assert recent.mean[5].item() == (0 + 1 + 2 + 3) / 4
    assert recent.mean[33].item() == sum(range(32)) / 32
    assert recent.mean[34].item() == sum(range(1, 33)) / 32
    assert recent.mean[41].item() == sum(range(8, 40)) / 32
    assert recent_surprisal([0], surprisal[:1]).n.tolist() == [0]


def test_a_late_window_does_not_need_the_surprisal_of_the_beginning() -> None:
    surprisal = torch.full((60,), math.nan)
    surprisal[28:] = 2.0
    recent = recent_surprisal(range(len(surprisal)), surprisal)
    assert recent.mean[-1].item() == 2 and recent.mean[:-1].isnan().all()


def test_what_a_template_wrote_does_not_count() -> None:
    surprisal = torch.tensor([math.nan, math.nan, 0.0, 4.0, 6.0, 0.0, 8.0])
    recent = recent_surprisal(range(7), surprisal, {2, 5})
    assert recent.n.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert recent.mean[3:].tolist() == [4.0, 5.0, 5.0, 6.0]
    long = torch.cat([torch.full((10,), 50.0), torch.full((40,), 2.0), torch.full((5,), 50.0)])
    recent = recent_surprisal(range(55), long, {*range(10), *range(50, 55)})
    assert recent.n[-1] == WINDOW and recent.mean[-1] == 2.0 and not recent.opening[-1]
    alone = recent_surprisal(range(55), long, range(55))
    assert alone.n.tolist() == [0] * 55 and alone.mean.isnan().all()


def repetition(ids: list[int], templated: set[int] | None = None) -> list[float]:
    """The share of repeated n-grams up to and with each token."""
    return recent_surprisal(ids, torch.zeros(len(ids)), templated or set()).repetition.tolist()


def test_repetition_is_the_share_of_recent_n_grams_that_stood_before() -> None:
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4, 1, 2])[4:] == [0, 0, 0, 1 / 5, 2 / 6, 3 / 7]
    assert repetition(list(range(40)))[3:] == [0.0] * 37
    assert all(math.isnan(one) for one in repetition([1, 2, 3]))
    looped = repetition([7, 8, 9] * 20)
    assert looped[35] == 30 / 32 and looped[-1] == 1.0  # the window leaves the first copy behind
    # the window alone, 32 tokens and their n-grams, is Welleck's rep-n: 1 - unique / all
    ids = [1, 2, 3, 4, 5] * 7
    grams = [tuple(ids[i : i + 4]) for i in range(32)]
    assert repetition(ids)[-1] == pytest.approx(1 - len(set(grams)) / len(grams))


def test_n_grams_with_a_token_of_the_template_are_no_repetition() -> None:
    # two turns of the same frame: 90 91 .. 92, of which the template writes the nineties
    ids = [90, 91, 1, 2, 3, 4, 5, 92, 90, 91, 6, 7, 8, 9, 92]
    frame = {i for i, one in enumerate(ids) if one >= 90}
    assert repetition(ids, frame)[-1] == 0.0
    said_twice = [90, 91, 1, 2, 3, 4, 5, 92, 90, 91, 1, 2, 3, 4, 5, 92]
    frame = {i for i, one in enumerate(said_twice) if one >= 90}
    assert repetition(said_twice, frame)[-1] == 0.5


def made(windows: int = FEWEST, openings: int = FEWEST) -> ReferenceStatistics:
    """Later windows have 0.5 to 2 nats, openings ten times that, the shorter the more."""
    first = torch.linspace(5, 20, openings)[:, None] + torch.linspace(3, 0, WINDOW)
    return ReferenceStatistics(torch.linspace(0.5, 2, windows), first, torch.tensor([0.25] * 4).log(), 0.1)


CERTAIN = torch.tensor([[0.97, 0.01, 0.01, 0.01]]).log()


def judged(
    reference: ReferenceStatistics, mean: float, n: int, opening: bool, repetition: float = 1.0
) -> str:
    recent = Recent(
        torch.tensor([mean], dtype=torch.float64),
        torch.tensor([n]),
        torch.tensor([opening]),
        torch.tensor([repetition], dtype=torch.float64),
    )
    (regime,) = regimes(reference, CERTAIN, recent).regime
    return regime


@pytest.mark.parametrize(
    ("mean", "n", "opening", "regime"),
    [
        (1.0, WINDOW, False, "strong"),
        (10.0, WINDOW, False, "dysfunctional:OOD-confident"),
        (10.0, WINDOW, True, "strong"),
        (1.0, WINDOW, True, "dysfunctional:resonant"),
        (22.0, WINDOW, True, "dysfunctional:OOD-confident"),
        (22.0, LEAST, True, "strong"),
        (24.0, LEAST, True, "dysfunctional:OOD-confident"),
        (24.0, LEAST - 1, True, ABSTAIN),
        (math.nan, 0, True, ABSTAIN),
    ],
)
def test_like_is_compared_with_like(mean: float, n: int, opening: bool, regime: str) -> None:
    assert judged(made(), mean, n, opening) == regime
    familiar = "familiar" if regime == "dysfunctional:resonant" else regime
    assert judged(made(), mean, n, opening, repetition=0.0) == familiar


def test_it_abstains_without_enough_reference() -> None:
    assert judged(made(windows=FEWEST - 1), 1.0, WINDOW, False) == ABSTAIN
    assert judged(made(windows=FEWEST - 1), 10.0, WINDOW, True) == "strong"
    assert judged(made(openings=FEWEST - 1), 10.0, WINDOW, True) == ABSTAIN


def test_what_it_was_told_by_is_given() -> None:
    mean, n = (torch.tensor([one, one]) for one in (1.25, WINDOW))
    recent = Recent(mean, n, torch.tensor([False, True]), torch.zeros(2))
    found = regimes(made(), CERTAIN.repeat(2, 1), recent)
    assert found.high.tolist() == pytest.approx([0.5, 1.0], abs=0.01)
    assert found.low.tolist() == pytest.approx([0.5, 0.005], abs=0.01)
    assert found.collision.tolist() == pytest.approx([0.97**2 + 3e-4] * 2)
    assert found.gain.tolist() == pytest.approx([0.97 * math.log(3.88) + 0.03 * math.log(0.04)] * 2, rel=1e-4)
