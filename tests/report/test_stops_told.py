"""What the story and the page say of stop tokens, from hand-made rows."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.report.figures.stops import stops
from elimtool.report.screen import Screen
from elimtool.report.trace.stops import MOST_STEPS, stop_lines

KEPT = {
    "token": " a",
    "model_prob": 0.25,
    "prob": 0.5,
    "removed_by": None,
    "model_stopped_by": 0.25,
    "stopped_by": 0.5,
    "stop_by": 0.4,
    "stop_by_se": 0.05,
    "n_texts": 10,
}
CUT = KEPT | {"model_prob": 0.125, "prob": 0.0, "removed_by": "top_k"}
TOKEN = {"token": "<|end|>", "model_rank": 7, "why": None}


class Made:
    def __init__(self, *steps: dict[str, Any]) -> None:
        self._steps = [step | {"step": at} for at, step in enumerate(steps)]

    def rows(self, name: str, *_: object) -> list[Any]:
        if name == "stops":
            return self._steps
        return [TOKEN | {"step": step["step"]} for step in self._steps if step["token"] is not None]


def said(tables: Any, width: int = 80) -> str:
    lines = stop_lines(tables, {"prompt_id": "p"}, Screen(width))
    assert all(line.cell_len <= width for line in lines)
    return " ".join(" ".join(line.plain.split()) for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_it_says_what_cuts_the_end_and_when_a_text_stops(width: int) -> None:
    over = KEPT | dict.fromkeys(("token", "model_prob", "prob", "model_stopped_by", "stopped_by"))
    told = said(Made(KEPT, CUT, over), width)
    assert "Where it may stop: '<|end|>'" in told
    assert "no way to stop at 1 of 2 steps (cut by top_k at 1)" in told
    assert "goes this way has stopped within 2 tokens with p = 0.5, without the chain's stages with" in told
    assert "has stopped within 3 tokens with p = 0.4 (standard error 0.05, over 10 texts" in told
    if width > 40:  # on 60 columns what the chain does has a line of its own, and nothing is cut short
        assert "0 ' a' 0.25 7 0.5 0.5 kept 1 ' a' 0.12 7 0 0.5 cut: top_k" in told
        assert "written token p stop rank through by then chain" in told


def test_of_many_steps_those_are_listed_where_the_model_would_most_stop() -> None:
    few = [CUT | {"model_prob": 0.001 * at} for at in range(1, 21)]
    lines = stop_lines(Made(*few), {"prompt_id": "p"}, Screen(80))  # type: ignore[arg-type]
    listed = [line.plain.split()[0] for line in lines[-MOST_STEPS:]]
    assert listed == [str(at) for at in range(12, 20)]
    assert "at every step (cut by top_k at 20)" in said(Made(*few))
    assert "leaves a way to stop at every step" in said(Made(KEPT))


def test_the_page_lists_every_step_with_the_probability_over_all_texts() -> None:
    (figure,) = stops(Made(*[KEPT] * 20), {"prompt_id": "p"})  # type: ignore[arg-type]
    assert len(figure.rows) == 20 and all(len(row) == len(figure.columns) for row in figure.rows)
    assert figure.rows[0][-2] == "0.4"
    assert stops(Made(), {"prompt_id": "p"}) == []  # type: ignore[arg-type]
    assert stop_lines(Made(), {"prompt_id": "p"}, Screen(80)) == []  # type: ignore[arg-type]
