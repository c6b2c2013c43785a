"""Spreads and main effects of variants on the same items, and the overlap of rankings."""

from __future__ import annotations

import random
from math import isclose

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from elimtool.analysis.statistics.factors import main_effects, spread_of
from elimtool.analysis.statistics.families import holm
from elimtool.analysis.statistics.rankings import rank_biased_overlap


def equal(seed: int, variants: int = 12, items: int = 30) -> np.ndarray:
    return (np.random.default_rng(seed).random((variants, items)) < 0.4).astype(float)


def test_equal_variants_spread_by_chance_and_not_where_it_is_held_out() -> None:
    found = [spread_of(equal(seed), seed) for seed in range(60)]
    assert np.mean([one.spread for one in found]) > 0.2
    held = np.array([one.holdout for one in found])
    assert abs(held.mean()) < 3 * held.std(ddof=1) / len(held) ** 0.5
    assert 0 <= np.mean([one.p_value <= 0.05 for one in found]) <= 0.1
    assert np.mean([one.spread - one.null for one in found]) == pytest.approx(0, abs=0.03)


def test_a_planted_spread_is_found_and_remains_held_out() -> None:
    values = equal(1)
    values[3], values[7] = 1.0, 0.0
    found = spread_of(values)
    assert (found.spread, found.holdout) == (1.0, 1.0)
    assert found.p_value == 1 / 2001 and found.null_95 < 0.6


def test_the_order_of_variants_does_not_matter() -> None:
    values = equal(2)
    one, other = spread_of(values), spread_of(values[::-1].copy())
    assert (one.spread, one.holdout) == (other.spread, other.holdout)
    assert one.p_value == pytest.approx(other.p_value, abs=0.03)


def test_copies_of_one_variant_have_no_spread() -> None:
    found = spread_of(np.repeat(equal(3, 1), 5, 0))
    assert (found.spread, found.null, found.holdout, found.p_value) == (0, 0, 0, 1)


def test_main_effects_sum_to_zero_and_agree_with_scipy() -> None:
    random_numbers = np.random.default_rng(4)
    values = random_numbers.normal(size=(6, 20))
    values[:2] += 1
    levels = ["a", "a", "b", "b", "c", "c"]
    found = main_effects(values, levels)
    assert [one.level for one in found] == ["a", "b", "c"] and {one.n_variants for one in found} == {2}
    assert sum(one.main_effect for one in found) == pytest.approx(0, abs=1e-12)
    means = np.stack([values[:2].mean(0), values[2:4].mean(0), values[4:].mean(0)])
    for index, one in enumerate(found):
        told = ttest_1samp(means[index] - means.mean(0), 0)
        low, high = told.confidence_interval(0.95)
        assert (one.ci_low, one.ci_high) == pytest.approx((low, high))
        assert one.p_value == pytest.approx(told.pvalue, abs=0.03)
    assert found[0].against_best == 0 and found[1].against_best == pytest.approx(
        values[2:4].mean() - values[:2].mean()
    )
    p_values = np.array([one.p_value for one in found])
    np.testing.assert_allclose([one.p_adjusted for one in found], holm(p_values))


def test_where_smaller_is_better_the_smallest_is_the_best_level() -> None:
    values = np.array([[1.0, 1.2], [3.0, 3.1]])
    low, high = main_effects(values, ["low", "high"], best=-1)
    assert low.against_best == 0 and high.against_best == pytest.approx(1.95)
    assert low.p_value is None and low.p_adjusted is None  # two items are too few


def reference(short: list[int], long: list[int], p: float) -> float:
    """Equation 32 of Webber et al. 2010, term by term."""
    if len(short) > len(long):
        short, long = long, short
    s, n = len(short), len(long)

    def common(depth: int) -> int:
        return len(set(short[:depth]) & set(long[:depth]))

    first = sum(common(d) / d * p**d for d in range(1, n + 1))
    second = sum(common(s) * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * (first + second) + ((common(n) - common(s)) / n + common(s) / s) * p**n


def test_rank_biased_overlap_is_that_of_the_paper() -> None:
    chance = random.Random(5)
    for _ in range(200):
        one, other = (chance.sample(range(15), chance.randint(1, 15)) for _ in range(2))
        p = chance.choice((0.5, 0.9, 0.98))
        assert isclose(rank_biased_overlap(one, other, p), reference(one, other, p), abs_tol=1e-12)
        assert rank_biased_overlap(one, other, p) == rank_biased_overlap(other, one, p)


def test_rank_biased_overlap_by_hand() -> None:
    assert rank_biased_overlap([1, 2], [1, 2, 3, 4]) == pytest.approx(1)  # the one begins the other
    assert rank_biased_overlap([1], [2]) == 0
    # X = 0, 2: (1-p)/p * (2/2 p^2) + 2/2 p^2
    assert rank_biased_overlap([1, 2], [2, 1], 0.5) == pytest.approx(1 * 0.25 + 0.25)
