"""Cluster tests over layers against a count by hand, a planted difference, and none."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from elimtool.analysis.statistics.clusters import cluster_test, skew


def masses(values: np.ndarray) -> list[float]:
    """Masses of the clusters, by scipy's t and a walk over the layers."""
    t = stats.ttest_1samp(values, 0).statistic
    critical = stats.t.ppf(0.975, len(values) - 1)
    found, before = [], 0.0
    for one in t:
        if abs(one) > critical and before * one > 0:
            found[-1] += one
        elif abs(one) > critical:
            found.append(one)
        before = one if abs(one) > critical else 0.0
    return found


def test_clusters_are_those_counted_by_hand():
    random = np.random.default_rng(2)
    values = random.normal(0, 1, (8, 20))
    values[:, 4:9] += 1.5
    values[:, 9:12] -= 1.5
    found, edge = cluster_test(values)
    assert [one.mass for one in found] == pytest.approx(masses(values))
    assert len(found) >= 2 and {np.sign(one.mass) for one in found} == {-1, 1}
    largest = []
    for signs in product((1, -1), repeat=8):
        of_flipped = masses(values * np.array(signs)[:, None])
        largest.append(max(map(abs, of_flipped), default=0.0))
    for one in found:
        assert one.p_value == np.mean(np.array(largest) >= abs(one.mass) - 1e-6)
        assert (one.p_value <= 0.05) == (abs(one.mass) >= edge - 1e-6)


def test_a_planted_difference_is_found_where_it_is_and_negated_with_its_sign():
    random = np.random.default_rng(0)
    cells = random.normal(0, 1, (24, 8, 30))
    cells[:, :, 18:] += 1.0
    found, back = skew(cells, crossed=True), skew(-cells, crossed=True)
    assert found.first == 18 and found.sign[18:].all() and not found.sign[:18].any()
    assert found.onset is not None and found.onset[0] <= 18 <= found.onset[1]
    assert (back.sign == -found.sign).all() and back.onset == found.onset
    assert found.templates[-1].p_value < 0.05 and found.fillers is not None and found.fillers[-1].first == 18


def test_words_that_differ_by_chance_skew_templates_alone():
    false = {True: 0, False: 0}
    for seed in range(40):
        random = np.random.default_rng(seed)
        words = random.normal(0, 1, (1, 8, 1)) * np.linspace(0, 1, 12)
        cells = words + random.normal(0, 0.7, (12, 8, 12))
        for crossed in false:
            false[crossed] += skew(cells, crossed).first is not None
    assert false[True] <= 6 and false[False] > 20


def test_layers_without_spread_have_no_t():
    values = np.random.default_rng(1).normal(0, 1, (24, 5))
    values[:, 0] = 3.0  # prompts that end alike have one difference at the embedding
    found, _ = cluster_test(values)
    assert all(one.first > 0 and np.isfinite(one.mass) for one in found)
    assert skew(np.zeros((8, 6, 4)), crossed=True).first is None
