"""P-values among exchangeable courses: by hand, uniform without an effect, and corrected for all layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elimtool.numerics.exchangeable import LEAST, judged


def test_ranks_by_hand_and_the_first_of_three_layers() -> None:
    controls = np.tile(np.arange(99.0)[:, None], (1, 6))
    own = np.array([[94.5, 10, 95.5, 200, 96, 0]])
    found = judged(np.concatenate([own, controls]))
    assert found is not None
    # 95, 96, 97, 98 and itself are as far out as 94.5
    assert found.p.tolist() == pytest.approx([0.05, 0.9, 0.04, 0.01, 0.04, 1.0])
    assert found.surfaces == 2
    # nothing is anywhere as far out as 200 is at its layer, and everything as far as 0 is
    assert found.adjusted[3] == pytest.approx(0.01) and found.adjusted[5] == 1


def test_equal_courses_are_as_far_out_as_each_other() -> None:
    found = judged(np.ones((40, 5)))
    assert found is not None
    assert found.p.tolist() == [1] * 5 and found.adjusted.tolist() == [1] * 5
    assert (found.surfaces, found.chance) == (None, 0)


def test_too_few_controls_judge_nothing() -> None:
    assert judged(np.ones((LEAST, 5))) is None
    assert judged(np.ones((LEAST + 1, 5))) is not None


@given(st.integers(0, 10_000))
def test_the_correction_never_lowers_and_ranks_alone_matter(seed: int) -> None:
    courses = np.random.default_rng(seed).standard_normal((50, 8)).cumsum(1)
    found, stretched = judged(courses), judged(np.exp(courses))
    assert found is not None and stretched is not None
    assert (found.adjusted >= found.p - 1e-12).all()
    assert found.p.tolist() == stretched.p.tolist()


def test_layers_that_hang_together_pass_in_one_of_twenty_draws() -> None:
    """The least corrected p is uniform; the least plain one is not."""
    dice = np.random.default_rng(0)
    draws = [judged(dice.standard_normal((100, 12)).cumsum(1)) for _ in range(400)]
    corrected = np.mean([one.adjusted.min() <= 0.05 for one in draws if one is not None])
    plain = np.mean([one.p.min() <= 0.05 for one in draws if one is not None])
    assert 0.025 <= corrected <= 0.08 < 0.12 < plain
