"""The area under the ROC curve: by counting pairs, by ranks, and how often its interval covers."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from elimtool.analysis.statistics.auroc import auroc


def test_it_is_the_statistic_of_mann_and_whitney() -> None:
    random = np.random.default_rng(1)
    cases, others = random.integers(0, 6, 13).astype(float), random.integers(-2, 4, 9).astype(float)
    found = auroc(cases, others)
    assert found is not None
    assert found[0] == pytest.approx(mannwhitneyu(cases, others).statistic / (13 * 9))
    back = auroc(others, cases)
    assert back == pytest.approx((1 - found[0], 1 - found[2], 1 - found[1]))


def test_ends() -> None:
    assert auroc(np.array([2.0, 3]), np.array([0.0, 1])) == (1.0, 1.0, 1.0)
    assert auroc(np.array([1.0, 1]), np.array([1.0, 1])) == (0.5, 0.5, 0.5)
    assert auroc(np.array([1.0]), np.array([0.0, 1])) is None


def test_the_interval_covers_the_true_area() -> None:
    truth = NormalDist().cdf(1 / 2**0.5)  # of normal scores one standard deviation apart
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        found = auroc(random.normal(1, 1, 40), random.normal(0, 1, 60))
        assert found is not None
        covered += found[1] <= truth <= found[2]
    assert 0.91 <= covered / 300 <= 0.98
