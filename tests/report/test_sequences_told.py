"""What the story and the page say of targets of several tokens through a chain, from hand-made rows."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.report.figures.sequences import sequences
from elimtool.report.screen import Screen
from elimtool.report.trace.sequences import sequence_lines

KEY = {"chain": "mine", "target": "New York", "is_foil": False}
WHOLE = KEY | {
    "n_tokens": 2,
    "prob": 0.25,
    "model_prob": 0.125,
    "bits": 1.0,
    "bits_left": 2.0,
    "dies_step": None,
    "dies_stage": None,
    "dies_why": None,
}
STEP = KEY | {
    "token": " New",
    "model_prob": 0.25,
    "model_rank": 1,
    "prob": 0.5,
    "prob_so_far": 0.5,
    "removed_by": None,
    "why": None,
    "top": " the",
    "top_prob": 0.5,
    "end_model_prob": 0.01,
    "end_prob": 0.0,
    "end_removed_by": "min_tokens",
}
STEPS = [STEP | {"step": 0}, STEP | {"step": 1, "token": " York", "prob_so_far": 0.25}]
STAGE = KEY | {"stage": "top_k", "bits": 1.0, "alive_after": True, "why": None}
STAGES = [STAGE | {"step": 0}, STAGE | {"step": 1, "bits": 0.001}]
DEAD = {"dies_step": 1, "dies_stage": "ban", "dies_why": "2-gram", "prob": 0.0, "bits": None}


class Made:
    def __init__(self, whole: dict[str, Any], steps: list[Any], stages: list[Any]) -> None:
        self._rows = {"sequences": [whole], "sequence_steps": steps, "sequence_stages": stages}

    def rows(self, name: str, *_: object) -> list[Any]:
        return self._rows[name]


def said(tables: Any, width: int = 80) -> str:
    lines = sequence_lines(tables, {"prompt_id": "p"}, Screen(width))
    assert all(line.cell_len <= width for line in lines)
    return " ".join(" ".join(line.plain.split()) for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_target_that_lives_is_told_with_its_bits(width: int) -> None:
    told = said(Made(WHOLE, STEPS, STAGES), width)
    assert "'New York' through mine: p = 0.25, 0.12 in the model alone; the chain gives 1 bits" in told
    assert "2 bits are left to chance" in told
    if width > 40:
        assert "1 ' New' 0.25 1 0.5 0.5 top_k +1.00 2 ' York' 0.25 1 0.5 0.25" in told
        assert "token p rank drawn at so far stages, bits" in told
        assert "top_k +0.00" not in told


def test_a_target_that_dies_is_told_with_place_and_rule() -> None:
    gone = STEPS[1] | {"prob": 0.0, "removed_by": "ban", "why": "2-gram 'New York'"}
    stages = [STAGES[0], STAGES[1] | {"stage": "ban", "alive_after": False, "bits": None}]
    told = said(Made(WHOLE | DEAD, [STEPS[0], gone], stages))
    assert "p = 0, 0.12 in the model alone: ban removes its token 2 of 2" in told
    assert "cut: ban" in told
    assert "' York': ban: 2-gram 'New York'; most probable instead: ' the' with p = 0.5" in told


def test_what_a_banned_phrase_takes_with_it_is_told() -> None:
    back = DEAD | {"back_step": 0, "back_prob": 0.5, "collateral": 0.125}
    told = said(Made(WHOLE | back, STEPS, STAGES))
    assert "ban removes its token 2 of 2; what is banned is its token 1, p = 0.5, of which 0.12 would" in told


def test_the_page_lists_what_the_story_tells_and_the_end_of_the_text() -> None:
    (figure,) = sequences(Made(WHOLE, STEPS, STAGES), {"prompt_id": "p"})  # type: ignore[arg-type]
    assert "the chain gives 1 bits" in figure.note
    assert len(figure.rows) == 2 and all(len(row) == len(figure.columns) for row in figure.rows)
    assert figure.rows[0][-4:] == ["0.01", "0", "min_tokens", ""]


def test_nothing_is_told_where_nothing_was_followed() -> None:
    assert sequence_lines(Made(WHOLE, [], []), {"prompt_id": "p"}, Screen(80))
    empty = Made(WHOLE, [], [])
    empty._rows["sequences"] = []
    assert sequence_lines(empty, {"prompt_id": "p"}, Screen(80)) == []  # type: ignore[arg-type]
