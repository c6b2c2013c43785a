"""The story's sections on a decoding walk and on engines side by side, from hand-made tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from elimtool.report.figures.defined import COLUMNS
from elimtool.report.figures.walked import taken_back
from elimtool.report.screen import Screen
from elimtool.report.trace.engines import engines
from elimtool.report.trace.walk import MOST_BACK, MOST_STEPS, walk_lines

STEP = {
    "step": 0,
    "token": " Paris",
    "prob": 0.957,
    "model_prob": 0.773,
    "model_rank": 1,
    "n_survivors": 2,
    "chain": "llama.cpp",
    "almost": " London",
    "almost_prob": 0.0125,
    "almost_why": "min_p: too small",
    "runner_up": " the",
    "runner_up_prob": 0.05,
    "runner_up_cut": None,
}


class Rows:
    """Stands in for a probe or a run's tables: gives the same rows to whoever asks."""

    def __init__(self, rows: list[dict[str, Any]], **others: list[dict[str, Any]]) -> None:
        self._rows, self._others = rows, {"walk_stages": [], "risk": [], "walk_rewinds": []} | others
        self.run = SimpleNamespace(manifest=SimpleNamespace(seed=7))

    def rows(self, name: str, *_: object) -> list[dict[str, Any]]:
        return self._others.get(name, self._rows)


def text(lines: list[Any], width: int) -> str:
    for line in lines:
        assert line.cell_len <= width
    return " ".join(" ".join(line.plain.split()) for line in lines)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_step_says_what_was_drawn_and_what_competed(width: int) -> None:
    told = text(walk_lines(Rows([STEP]), {"prompt_id": "p"}, Screen(width)), width)
    assert "Written through llama.cpp" in told
    number = "written" if width > 40 else "#"
    head = f"{number} token p rank drawn at other token p chain"
    assert f"{head} 0 ' Paris' 0.77 1 0.96 ' the' 0.05 kept" in told
    cut = STEP | {"runner_up_cut": "top_k"}
    assert told.replace("kept", "cut: top_k") == text(
        walk_lines(Rows([cut]), {"prompt_id": "p"}, Screen(width)), width
    )


def test_what_was_taken_back_is_told_with_step_rule_and_cost() -> None:
    why = "completes the banned phrase 'a tap': the text goes back 2 tokens, ' a' is banned there"
    back = {"step": 3, "text": " a tap", "token": " a", "n_tokens": 2, "why": why}
    back |= {"back_prob": 0.5, "collateral": 0.25}
    rows = Rows([STEP], walk_rewinds=[back] * (MOST_BACK + 2))
    told = text(walk_lines(rows, {"prompt_id": "p"}, Screen(80)), 80)
    assert f"taken back to step 3: ' a tap' {why} (p = 0.5, of which 0.25 would have gone on" in told
    assert told.count("taken back to step 3") == MOST_BACK and "taken back 2 more times" in told
    (figure,) = taken_back(rows, {"prompt_id": "p"})  # type: ignore[arg-type]
    assert figure.rows[0] == [3, "' a tap'", 2, "' a'", "0.5", "0.25", why]
    assert set(COLUMNS["taken_back"]) <= set(figure.columns)
    assert taken_back(Rows([STEP]), {"prompt_id": "p"}) == []  # type: ignore[arg-type]


def test_what_was_written_is_headed_by_all_that_it_takes_to_write_it_again() -> None:
    stages = [
        {"step": 0, "stage": "top_k", "params": '{"k": 40}', "active": True},
        {"step": 0, "stage": "xtc", "params": '{"probability": 0.0}', "active": False},
        {"step": 0, "stage": "temperature", "params": '{"temperature": 0.8}', "active": True},
    ]
    told = text(walk_lines(Rows([STEP], walk_stages=stages), {"prompt_id": "p"}, Screen(80)), 80)
    assert told.startswith("Written through llama.cpp with seed 7: top_k 40, temperature 0.8")


def test_where_the_chain_leaves_one_token_no_step_repeats_that_it_was_drawn_for_certain() -> None:
    steps = [STEP | {"step": index, "n_survivors": 1, "prob": 1.0} for index in range(9)]
    lines = walk_lines(Rows(steps), {"prompt_id": "p"}, Screen(80))
    told = text(lines, 80)
    assert told.count("the chain left one token at each step") == 1
    assert "drawn at" not in told and "100%" not in told and lines[-1].plain.count("1") == 1


def test_a_walk_of_an_earlier_run_tells_what_was_almost_written() -> None:
    step = {key: value for key, value in STEP.items() if not key.startswith("runner_up")}
    assert "' London' 0.013 cut: min_p" in text(walk_lines(Rows([step]), {"prompt_id": "p"}, Screen(80)), 80)
    step |= {"almost": None, "almost_prob": None, "almost_why": None}
    assert text(walk_lines(Rows([step]), {"prompt_id": "p"}, Screen(80)), 80).endswith("1 0.96")


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
