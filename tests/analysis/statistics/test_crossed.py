"""Differences between groups over templates and words: symmetries, error rates, what leaves them alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from elimtool.analysis.statistics.crossed import Grid, GroupDifference, cliffs_delta, group_difference
from elimtool.analysis.statistics.flips import sign_flips

NAMES = [(u, v) for u in range(12) for v in range(8)]
TEMPLATES, FILLERS = [u for u, _ in NAMES], [v for _, v in NAMES]


def outcomes(seed: int, gap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two groups of words, drawn from one population, in the same templates."""
    random = np.random.default_rng(seed)
    template = random.normal(0, 1, (12, 1))
    a, b = (mean + template + random.normal(0, 1, 8) + random.normal(0, 0.5, (12, 8)) for mean in (gap, 0.0))
    return a.ravel(), b.ravel()


def compared(a: Any, b: Any, yes_no: bool = False) -> GroupDifference:
    return group_difference(Grid.of(TEMPLATES, FILLERS, np.asarray(a), np.asarray(b)), yes_no=yes_no)


def test_groups_that_do_not_differ_are_rarely_called_different():
    found = [compared(*outcomes(seed)) for seed in range(200)]
    rejected = np.mean([one.p_value is not None and one.p_value <= 0.05 for one in found])
    by_templates = np.mean([one.p_templates is not None and one.p_templates <= 0.05 for one in found])
    covered = np.mean([one.ci_low <= 0 <= one.ci_high for one in found])  # type: ignore[operator]
    assert 0.01 <= rejected <= 0.09 and 0.92 <= covered <= 0.98
    assert by_templates > 0.5  # which is why words are tested too
    apart = [compared(*outcomes(seed, 1.0)) for seed in range(200)]
    assert 0.92 <= np.mean([one.ci_low <= 1 <= one.ci_high for one in apart]) <= 0.98  # type: ignore[operator]


@pytest.mark.parametrize("yes_no", [False, True])
def test_exchanged_groups_have_the_negated_difference(yes_no: bool):
    a, b = outcomes(3, 0.7)
    if yes_no:
        a, b = (a > 0).astype(float), (b > 0).astype(float)
    one, other = compared(a, b, yes_no), compared(b, a, yes_no)
    assert one.difference == pytest.approx(-other.difference) and one.p_value == other.p_value
    assert (one.ci_low, one.ci_high) == pytest.approx((-other.ci_high, -other.ci_low))  # type: ignore[operator]
    assert one.dominance == -other.dominance and one.cliffs_delta == pytest.approx(-other.cliffs_delta)
    assert (one.mean_a, one.mean_b) == (other.mean_b, other.mean_a) and one.d_z == pytest.approx(-other.d_z)  # type: ignore[operator]


def test_copies_of_records_change_nothing():
    a, b = outcomes(5, 0.4)
    grid = Grid.of(TEMPLATES * 7, FILLERS * 7, np.tile(a, 7), np.tile(b, 7))
    once, often = compared(a, b), group_difference(grid)
    for name in GroupDifference.__slots__:
        value = getattr(once, name)
        assert getattr(often, name) == (pytest.approx(value) if isinstance(value, float) else value), name


def test_identical_groups_do_not_differ():
    a, _ = outcomes(1)
    found = compared(a, a)
    assert (found.difference, found.p_value, found.dominance, found.cliffs_delta) == (0, 1, 0, 0)
    assert found.d_z is None and found.detectable is None  # nothing varies at all
    shares = compared((a > 0).astype(float), (a > 0).astype(float), yes_no=True)
    assert (shares.difference, shares.p_value, shares.ci_method) == (0, 1, "newcombe")
    assert (
        shares.ci_low is not None
        and shares.ci_high is not None
        and shares.ci_low < -0.05 < 0.05 < shares.ci_high
    )


def test_p_values_are_uniform_under_permuted_labels():
    rows = np.random.default_rng(0).gamma(1, 1, 16)  # differences far from 0: only their signs are chance
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (16, 400))
    p_values = sign_flips(rows[:, None] * signs, 0)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert p_values.min() > 0


def test_a_difference_that_would_have_been_found_is_said_where_none_was():
    a, b = outcomes(4)
    found = compared(a, b)
    assert found.p_value is not None and found.p_value > 0.05 and found.detectable is not None
    assert found.ci_high is not None and found.detectable > found.ci_high - found.difference
    there = compared(a + 9, b)
    assert there.p_value is not None and there.p_value <= 0.05 and there.detectable is None
    assert there.p_value == max(there.p_templates or 0, there.p_fillers or 0)


def test_few_words_or_templates_are_said_to_be_these():
    a, b = (one.reshape(12, 8) for one in outcomes(2, 1.0))

    def part(rows: int, columns: int) -> GroupDifference:
        names = [(u, v) for u in range(rows) for v in range(columns)]
        sides = (one[:rows, :columns].ravel() for one in (a, b))
        return group_difference(Grid.of([u for u, _ in names], [v for _, v in names], *sides))

    words = part(12, 5)
    assert (words.scope, words.ci_method, words.p_fillers) == ("words", "bca", None)
    assert words.p_value == words.p_templates is not None
    few = part(5, 8)
    assert (few.scope, few.p_value, few.detectable) == ("words", None, None) and few.ci_low is not None
    one = part(1, 8)
    assert (one.ci_low, one.ci_method, one.p_value, one.d_z) == (None, None, None, None)


def test_templates_with_words_of_their_own_are_the_one_unit():
    a, b = (one[:40] for one in outcomes(6, 1.0))
    found = group_difference(Grid.of([u // 2 for u in range(40)], list(range(40)), a, b))
    assert (found.scope, found.n_templates, found.n_fillers, found.p_fillers) == ("groups", 20, None, None)
    means = (a - b).reshape(20, 2).mean(1)
    assert found.difference == pytest.approx(means.mean())
    assert found.p_value == pytest.approx(stats.ttest_1samp(means, 0).pvalue, abs=0.02)


def test_gaps_leave_as_little_as_needed_out():
    keep = [index for index, (u, v) in enumerate(NAMES) if not ((u == 3 and v > 1) or (u, v) == (7, 5))]
    a, b = outcomes(8)
    pick = ([TEMPLATES[i] for i in keep], [FILLERS[i] for i in keep], a[keep], b[keep])
    grid = Grid.of(*pick)
    assert 3 not in grid.templates and grid.a.shape == (10, 8) and 7 not in grid.templates
    assert grid.dropped == len(keep) - 80
    whole = Grid.of(TEMPLATES, FILLERS, a, b)
    assert whole.dropped == 0 and not whole.nested
    np.testing.assert_array_equal(whole.a, a.reshape(12, 8))


def test_cliffs_delta_is_that_of_mann_and_whitney():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 9, 30).astype(float), random.integers(2, 12, 25).astype(float)
    wanted = 2 * stats.mannwhitneyu(a, b).statistic / (30 * 25) - 1
    assert cliffs_delta(a, b) == pytest.approx(wanted)
