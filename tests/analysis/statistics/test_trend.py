"""Spearman's correlation with the order of measurements, against scipy and by all orders."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr

from elimtool.analysis.statistics.trend import trend


@pytest.mark.parametrize("n", [3, 6, 20])
def test_it_is_that_of_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n) + 0.1 * np.arange(n)
    found = trend(values)
    assert found is not None
    told = spearmanr(np.arange(n), values)
    assert found[0] == pytest.approx(told.statistic)
    if n > 8:
        assert found[1] == pytest.approx(told.pvalue)
        return
    exact = permutation_test(
        (np.arange(n),),
        lambda order: abs(spearmanr(order, values).statistic),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=np.inf,
    )
    assert found[1] == pytest.approx(exact.pvalue)


def test_by_hand() -> None:
    assert trend(np.array([1.0, 2, 5])) == (pytest.approx(1), pytest.approx(2 / 6))
    assert trend(np.array([5.0, 2, 1, 0])) == (pytest.approx(-1), pytest.approx(2 / 24))
    assert trend(np.array([1.0, 1, 1])) is None and trend(np.array([1.0, 2])) is None
