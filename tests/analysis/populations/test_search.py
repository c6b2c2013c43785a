"""Searches for the best and the worst of many variants: within a budget, near what all calls find."""

from __future__ import annotations

import numpy as np
import pytest

from elimtool.analysis.populations.sweep.search import SEARCHED, check_search, search
from elimtool.errors import ElimError


@pytest.mark.parametrize("kind", SEARCHED)
def test_a_search_finds_most_of_the_spread_with_an_eighth_of_the_calls(kind: str) -> None:
    shares = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        rates = np.clip(random.normal(0.5, 0.1, 64), 0, 1)
        values = (random.random((64, 400)) < rates[:, None]).astype(float)
        asked: set[tuple[int, int]] = set()

        def score(arms: np.ndarray, start: int, stop: int) -> np.ndarray:
            cells = {(int(arm), item) for arm in arms for item in range(start, stop)}
            assert not cells & asked, "an outcome is asked for once"  # noqa: B023
            asked.update(cells)  # noqa: B023
            return values[arms, start:stop]  # noqa: B023

        found = search(kind, score, 64, 400, 3200, seed=1)
        assert len(asked) == found.n_calls <= 3200
        assert not np.isnan(found.values[[found.best, found.worst]]).any()
        assert found.spread == pytest.approx(values[found.best].mean() - values[found.worst].mean())
        shares.append(found.spread / np.ptp(values.mean(1)))
    assert np.mean(shares) > 0.7  # of two variants at random: 0


@pytest.mark.parametrize("kind", SEARCHED)
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_best_and_the_worst_are_two_where_all_are_alike(kind: str, rate: float) -> None:
    for variants in (2, 3, 5, 8):
        found = search(
            kind,
            lambda arms, a, b: np.full((len(arms), b - a), rate),
            variants,
            4,
            variants + 8,
        )
        assert found.best != found.worst and found.spread == 0


def test_a_search_where_smaller_is_better() -> None:
    values = np.arange(8.0)[:, None].repeat(20, 1)
    found = search("halving", lambda arms, a, b: values[arms, a:b], 8, 20, 100, best=-1)
    assert (found.best, found.worst) == (0, 7)


def test_a_budget_too_small_for_a_look_at_each_is_refused() -> None:
    with pytest.raises(ElimError, match="`budget` must be 48"):
        search("halving", lambda *_: np.zeros((1, 1)), 8, 20, 47)


@pytest.mark.parametrize("kind", SEARCHED)
def test_what_a_search_holds_out_is_nothing_where_all_variants_are_alike(kind: str) -> None:
    found = []
    for seed in range(40):
        values = (np.random.default_rng(seed).random((16, 80)) < 0.5).astype(float)
        found.append(search(kind, lambda arms, a, b: values[arms, a:b], 16, 80, 400, seed=seed))  # noqa: B023
    held = np.array([one.holdout for one in found], float)
    assert np.mean([one.spread for one in found]) > 0.05  # picked on the items that it is computed on
    assert abs(held.mean()) < 3 * held.std() / np.sqrt(len(held))


def test_searches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ElimError, match="'halve' is not valid"):
        check_search("halve", "survives")
    with pytest.raises(ElimError, match="draws from shares"):
        check_search("thompson", "rank")
