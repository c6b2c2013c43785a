"""Ranks, directions and agreement of attributions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from elimtool.analysis.attribute import agreement, direction, disagreements, rank_correlation, ranks

numbers = st.lists(st.integers(-5, 5), min_size=3, max_size=9)


def test_ranks_share_the_better_place() -> None:
    assert ranks([0.5, 2.0, 0.5, -1.0]) == [2, 1, 2, 4]


@pytest.mark.parametrize(
    ("score", "said"),
    [(0.5, "preserving"), (-0.01, "eliminating"), (0.0, "neutral"), (-0.009, "neutral")],
)
def test_directions(score: float, said: str) -> None:
    assert direction(score) == said


@given(numbers, st.randoms())
def test_rank_correlation_is_spearmans(one: list[int], dice: object) -> None:
    other = [value * value - 2 * value for value in reversed(one)]
    found = rank_correlation(one, other)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(one, other).statistic)


def test_agreement_of_pairs() -> None:
    found = agreement({"a": [3.0, 2.0, 1.0], "b": [1.0, 2.0, 3.0], "c": [9.0, 5.0, 1.0]})
    assert [(one.method, one.other, one.same_top) for one in found] == [
        ("a", "b", False),
        ("a", "c", True),
        ("b", "c", False),
    ]
    assert [one.rank_correlation for one in found] == pytest.approx([-1, 1, -1])
    assert agreement({"a": [1.0]}) == []


def test_disagreements_in_sign_and_first_place() -> None:
    scores = {"a": [2.0, -1.0, 0.005, 0.3], "b": [1.0, 3.0, -0.4, 0.2]}
    assert disagreements(scores) == ["top", "sign, top", None, None]
    assert disagreements({"a": [1.0, -1.0]}) == [None, None]
    assert disagreements({}) == []
