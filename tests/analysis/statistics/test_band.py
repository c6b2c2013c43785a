"""The band of controls, by hand, and how often what is exchangeable goes beyond it."""

from __future__ import annotations

import numpy as np
import pytest

from elimtool.analysis.statistics.band import LEAST, band, onset, others, scores


def test_the_band_is_the_quantile_that_keeps_its_promise() -> None:
    assert band([np.array([float(k)]) for k in range(18)]) is None
    assert band([np.array([float(k)]) for k in range(19)]).tolist() == [18]  # type: ignore[union-attr]
    assert band([np.array([float(k)]) for k in range(39)]).tolist() == [37]  # type: ignore[union-attr]
    assert LEAST == 19


@pytest.mark.parametrize("count", [19, 20, 45])
def test_what_is_no_different_goes_beyond_it_seldom(count: int) -> None:
    drawn = np.random.default_rng(0).exponential(size=(4000, count + 1, 1))
    beyond = [float(row[0, 0] > band(list(row[1:]))[0]) for row in drawn]  # type: ignore[index]
    assert np.mean(beyond) <= 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5
    assert np.mean(beyond) >= 0.02


def test_onset_is_the_first_layer_beyond() -> None:
    border = np.array([0.1, 0.1, 0.1, 0.1])
    assert onset(np.array([0.0, 0.1, 0.2, 0.05]), border) == 1
    assert onset(np.array([0.2, 0.0, 0.0, 0.0]), border) == -1
    assert onset(np.array([0.1, 0.1, 0.1, 0.1]), border) is None
    assert onset(np.array([9.0]), None) is None


def test_scores_by_hand_and_what_has_none() -> None:
    controls = [
        np.array([1.0, np.nan, 2.0, np.nan]),
        np.array([3.0, 1.0, 2.0, np.nan]),
        np.array([5.0, 3.0, 2.0, 1.0]),
    ]
    found = scores(np.array([7.0, 2.0, 3.0, 1.0]), controls)
    assert found[:2].tolist() == pytest.approx([2.0, 0.0])
    assert np.isnan(found[2:]).all()
    assert np.isnan(scores(np.array([1.0]), controls[:1])).all()
    assert [one[0] for one in others(controls, 1)] == [1.0, 5.0]
