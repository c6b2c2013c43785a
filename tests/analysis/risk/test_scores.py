"""Risk scores against formulas written out term by term, and at their ends."""

from __future__ import annotations

from math import e, log

import numpy as np
import pytest

from elimtool.analysis.risk.answers import clusters, normal, says
from elimtool.analysis.risk.scores import eigenscore, lookback, rauq, semantic_entropy


@pytest.mark.parametrize("k", [2, 5, 10])
def test_equal_samples_have_no_entropy_and_different_ones_all_of_it(k: int) -> None:
    assert semantic_entropy(clusters(["Paris."] * k, [])) == 0
    assert semantic_entropy(clusters([f"word{i}" for i in range(k)], [])) == pytest.approx(log(k))
    assert semantic_entropy([]) is None


def test_entropy_is_that_of_scipy() -> None:
    from scipy.stats import entropy

    assert semantic_entropy([0, 0, 1, 2, 2, 2]) == pytest.approx(entropy([2, 1, 3]))


def test_what_says_the_same_is_one_cluster() -> None:
    texts = [" The Paris, of course.", "paris of course! I think", "It is Lyon", "Lyon."]
    assert clusters(texts, []) == [0, 0, 1, 2]
    assert clusters(texts, [["Paris"], ["Lyon", "it is Lyon"]]) == [0, 0, 1, 1]
    assert normal("  A big, big state! Yes") == "big big state"
    assert says(" Black Sea.", "the black sea") and not says("Blackpool", "Black") and not says("x", "")


def test_lookback_by_hand() -> None:
    # two heads, two written tokens
    prompt, written = np.array([[0.15, 0.1], [0.0, 0.2]]), np.array([[0.2, 0.3], [0.0, 0.0]])
    found = lookback(prompt, written)
    assert found == pytest.approx([(0.15 / 0.35 + 0.1 / 0.4) / 2, (0 + 1) / 2])


def test_rauq_by_hand() -> None:
    probs = np.array([0.5, 0.8])
    calm, torn = np.array([[0.1], [0.9]]), np.array([[0.2], [0.05]])
    c = [0.5, 0.2 * 0.8 + 0.8 * 0.9 * 0.5]
    d = [0.5, 0.2 * 0.8 + 0.8 * 0.2 * 0.5]
    assert rauq(probs, [calm, torn], 0.2) == pytest.approx(-np.log(d).mean())
    assert rauq(probs, [calm], 0.2) == pytest.approx(-np.log(c).mean())
    assert rauq(np.array([1 / e]), [np.zeros((2, 0))], 0.2) == pytest.approx(1)
    assert rauq(np.array([]), [calm], 0.2) is None and rauq(probs, [], 0.2) is None


def test_eigenscore_is_the_log_determinant_and_leaves_massive_channels_out() -> None:
    states = np.random.default_rng(1).normal(size=(4, 9))
    states[:, 3] = 500
    kept = np.delete(states, 3, 1)
    d = kept.shape[1]
    centring = np.eye(d) - np.ones((d, d)) / d
    expected = np.linalg.slogdet(kept @ centring @ kept.T + 0.001 * np.eye(4))[1] / 4
    assert eigenscore(states) == pytest.approx(expected)
    same = np.repeat(states[:1], 4, 0)
    one = np.delete(same, 3, 1)[0]
    size = 4 * ((one - one.mean()) ** 2).sum() + 0.001  # the one eigenvalue that is not 0.001
    assert eigenscore(same) == pytest.approx((log(size) + 3 * log(0.001)) / 4)
    assert eigenscore(same) < eigenscore(states) and eigenscore(states[:1]) is None
