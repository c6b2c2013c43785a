"""Intervals and p-values against scipy, by hand, and their symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from elimtool.analysis.compare.resample import MeanDifference, adjusted, resample


def of(values: list[float], seed: int = 0) -> MeanDifference:
    sums = np.array(values, dtype=float)[:, None]
    return resample(sums, np.ones_like(sums), seed)[0]


def test_the_interval_is_scipys_bca_interval():
    values = np.random.default_rng(3).exponential(size=60) - 0.7
    found = of(values.tolist())
    wanted = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    width = wanted.high - wanted.low
    assert found.method == "bca" and found.ci_low and found.ci_high
    assert abs(found.ci_low - wanted.low) < 0.04 * width and abs(found.ci_high - wanted.high) < 0.04 * width


@pytest.mark.parametrize("values", [[1.0, 2.0, -0.5, 0.25, 3.0], [0.0, 0.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
def test_few_units_are_gone_through_in_full(values: list[float]):
    wanted = stats.permutation_test(
        (np.array(values),), lambda x, axis: x.mean(axis), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert of(values).p_value == pytest.approx(wanted)


def test_many_units_are_drawn():
    values = np.random.default_rng(0).normal(0.25, 1, 100)
    p = of(values.tolist()).p_value
    assert p is not None and p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert of([1.0] * 100).p_value == 1 / 10_001


def test_nothing_differs():
    assert of([0.0] * 20) == MeanDifference(0.0, 0.0, 0.0, 1.0, "percentile")
    assert of([0.5]) == MeanDifference(0.5, None, None, None, None)


def test_units_weigh_by_their_pairs():
    sums, counts = np.array([[6.0], [1.0], [0.0]]), np.array([[3.0], [1.0], [0.0]])
    found = resample(sums, counts, 0)[0]
    assert found.mean_difference == 7 / 4 and found.p_value == 0.5  # two units: both signs equal in 2 of 4


def test_copies_within_a_unit_do_not_narrow_the_interval():
    values = np.random.default_rng(5).normal(0.2, 1, 12)
    once, often = of(values.tolist()), resample(values[:, None] * 50, np.full((12, 1), 50.0), 0)[0]
    assert once[:4] == pytest.approx(often[:4], rel=1e-9)


numbers = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=30)


@given(numbers)
def test_negated_differences_have_the_negated_interval(values: list[float]):
    one, other = of(values), of([-value for value in values])
    assert one.mean_difference == -other.mean_difference and one.p_value == other.p_value
    assert one.method == other.method
    assert one.ci_low == pytest.approx(-other.ci_high, abs=1e-9)  # type: ignore[operator]
    assert one.ci_high == pytest.approx(-other.ci_low, abs=1e-9)  # type: ignore[operator]
    assert one.ci_low is not None and one.ci_high is not None and one.ci_low <= one.ci_high
    assert min(values) - 1e-9 <= one.ci_low and one.ci_high <= max(values) + 1e-9


def test_metrics_of_different_units_are_tested_as_if_alone():
    random = np.random.default_rng(2)
    sums = random.normal(size=(20, 3))
    counts = np.ones((20, 3))
    counts[:7, 1] = sums[:7, 1] = 0
    found = resample(sums, counts, 4)
    alone = [
        resample(sums[counts[:, i] > 0, i : i + 1], counts[counts[:, i] > 0, i : i + 1], 4)[0]
        for i in range(3)
    ]
    for one, other in zip(found, alone, strict=True):
        assert one[:4] == pytest.approx(other[:4], rel=1e-9)


def test_the_null_is_rejected_as_often_as_it_says():
    random = np.random.default_rng(0)
    sums = random.normal(size=(40, 400))
    rejected = np.mean([one.p_value <= 0.05 for one in resample(sums, np.ones_like(sums), 0)])  # type: ignore
    covered = np.mean([one.ci_low <= 0 <= one.ci_high for one in resample(sums, np.ones_like(sums), 0)])  # type: ignore
    assert 0.025 < rejected < 0.08 and 0.9 < covered < 0.98


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_q_values_are_scipys_benjamini_hochberg(p_values: list[float]):
    wanted = stats.false_discovery_control(p_values, method="bh")
    assert np.allclose(adjusted(np.array(p_values)), wanted, rtol=1e-12, atol=0)
