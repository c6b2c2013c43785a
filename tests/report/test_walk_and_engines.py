"""The story's sections on a decoding walk and on engines side by side, from hand-made tables."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.report.screen import Screen
from elimtool.report.trace.engines import engines
from elimtool.report.trace.walk import MOST_STEPS, walk_lines

STEP = {
    "step": 0,
    "token": " Paris",
    "prob": 0.957,
    "n_survivors": 2,
    "chain": "llama.cpp",
    "almost": " London",
    "almost_prob": 0.0125,
    "almost_why": "min_p: too small",
}


class Rows:
    """Stands in for a probe or a run's tables: gives the same rows to whoever asks."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def rows(self, *_: object) -> list[dict[str, Any]]:
        return self._rows


def text(lines: list[Any], width: int) -> str:
    for line in lines:
        assert line.cell_len <= width
    return " ".join(" ".join(line.plain.split()) for line in lines)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_step_says_what_was_drawn_and_what_almost_was(width: int) -> None:
    told = text(walk_lines(Rows([STEP]), {"prompt_id": "p"}, Screen(width)), width)
    assert "Written through llama.cpp" in told
    assert "' Paris'" in told and "96% of 2" in told
    assert "' London'" in told and "(1.2%): min_p: too small" in told


def test_nothing_is_said_of_a_token_that_nothing_almost_replaced() -> None:
    step = STEP | {"almost": None, "almost_prob": None, "almost_why": None}
    assert "almost" not in text(walk_lines(Rows([step]), {"prompt_id": "p"}, Screen(80)), 80)


def test_long_walks_are_counted() -> None:
    steps = [STEP | {"step": index} for index in range(MOST_STEPS + 7)]
    assert "7 more steps" in text(walk_lines(Rows(steps), {"prompt_id": "p"}, Screen(80)), 80)
    assert walk_lines(Rows([]), {"prompt_id": "p"}, Screen(80)) == []


@pytest.mark.parametrize("width", [40, 80, 200])
def test_engines_that_differ(width: int) -> None:
    row = {
        "chain": "llama.cpp",
        "other": "hf",
        "total_variation": 0.146,
        "n_only": 0,
        "only": [],
        "n_only_other": 48,
        "only_other": [" London", " Le", " New", " a", " b"],
    }
    told = text(engines(Rows([row]), Screen(width)), width)
    assert "llama.cpp and hf: 15%" in told
    assert "hf alone keeps ' London', ' Le', ' New' and 45 more" in told
    assert "llama.cpp alone" not in told


def test_engines_that_agree() -> None:
    row = {
        "chain": "a",
        "other": "[b]x",
        "total_variation": 0.0,
        "n_only": 0,
        "only": [],
        "n_only_other": 0,
        "only_other": [],
    }
    assert "a and [b]x: 0%; the same tokens survive" in text(engines(Rows([row]), Screen(80)), 80)
    assert engines(Rows([]), Screen(80)) == []
