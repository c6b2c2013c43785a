"""Intervals of shares against published values, scipy and their own level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from elimtool.analysis.statistics.proportions import newcombe, t_interval, wilson


def test_newcombes_own_example():
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert newcombe(36, 2, 12, 0) == pytest.approx((-0.3404, -0.0569), abs=5e-5)


counts = st.integers(0, 30)


@given(counts, counts, counts, counts)
def test_exchanged_sides_have_the_negated_interval(both: int, first: int, second: int, neither: int):
    if not both + first + second + neither:
        return
    low, high = newcombe(both, first, second, neither)
    assert newcombe(both, second, first, neither) == pytest.approx((-high, -low))
    difference = (first - second) / (both + first + second + neither)
    assert -1 - 1e-9 <= low <= difference + 1e-12 and difference - 1e-12 <= high <= 1 + 1e-9


def test_newcombes_interval_holds_as_often_as_it_says():
    rates = np.array([0.5, 0.2, 0.1, 0.2])  # both, first, second, neither: a difference of 0.1
    drawn = np.random.default_rng(0).multinomial(40, rates, size=1500)
    held = [low <= 0.1 <= high for low, high in (newcombe(*map(float, one)) for one in drawn)]
    assert 0.92 < np.mean(held) < 0.98


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_is_scipys(hits: int, n: int):
    hits = min(hits, n)
    wanted = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    together = stats.binomtest(hits, n).proportion_ci(1 - 0.05 / 20, method="wilson")
    assert wilson(hits, n, at_once=20) == pytest.approx((together.low, together.high), abs=1e-12)


def test_means_of_clusters_have_students_interval():
    values = [0.2, 0.5, 0.9, 0.4, 0.35]
    wanted = stats.ttest_1samp(values, 0).confidence_interval()
    assert t_interval(values) == pytest.approx((wanted.low, wanted.high))
