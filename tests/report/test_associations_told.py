"""What stories and pages say of associations: never an effect without its control sets."""

from __future__ import annotations

from typing import Any

import pytest

import elimtool
from elimtool import TraceOptions
from elimtool.report.facts import Probe, Tables
from elimtool.report.figures.associations import associations
from elimtool.report.screen import Screen
from elimtool.report.trace.associations import association_lines, association_sentence

ROW = {
    "layer": 3,
    "concept": "snow",
    "n_tokens": 4,
    "n_said": 0,
    "best_token": " ice",
    "best_rank": 7,
    "mass": 0.25,
    "n_controls": 99,
    "control_rank": 900,
    "control_rank_low": 20,
    "control_rank_high": 4000,
    "p_value": 0.01,
    "p_adjusted": 0.02,
    "surfaces_at": 3,
    "surface_chance": 0.12,
}
SCREEN = Screen(80)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "better than 99 of 99 (p 0.01; over all layers 0.02). It surfaces at layer 3"),
        ({}, "(12% of such sets do so somewhere): more than chance, in this one prompt."),
        ({"p_adjusted": 0.3}, "over so many layers no evidence of an association."),
        ({"p_value": 0.5, "p_adjusted": 0.9, "surfaces_at": None}, "better than 50 of 99"),
        ({"surfaces_at": None, "p_adjusted": 0.9}, "It does not surface"),
        ({"p_value": None, "n_controls": 0}, "a fitted lens (elimtool lens fit), so this says nothing"),
        ({"p_value": None, "n_controls": 7}, "only 7 sets as frequent, and a test needs 19"),
        ({"n_said": 2}, "(2 that stand in the prompt left out)"),
        ({"best_rank": None}, "all its words stand in the prompt"),
    ],
)  # fmt: skip
def test_every_sentence_names_its_control(row: dict[str, Any], said: str) -> None:
    told = association_sentence([{**ROW, **row}], SCREEN, {"hoarfrost": " ho"})
    assert said in told
    if row.get("p_value", 0.01) is None or row.get("p_adjusted", 0) > 0.05:
        assert "more than chance" not in told
    assert ("'hoarfrost' is no token" in told) == ("best_rank" not in row)


def test_a_run_is_told_and_drawn_with_its_band(llama: Any, random_lens: str) -> None:
    options = TraceOptions(
        lens=random_lens,
        samplers=(),
        tables=("lens_layers",),
        concepts=("words=eliminated, layer", "other=Q"),
    )
    run = elimtool.trace(llama, "The capital of France is", options=options)
    tables = Tables(run)
    probe = Probe(
        tables, tables.all("prompts")[0], tables.positions(tables.all("prompts")[0]["prompt_id"])[-1]
    )
    lines = [one.plain for one in association_lines(probe, SCREEN)]
    assert all(len(one) <= 80 for one in lines) and sum(one.startswith("'") for one in lines) == 2
    drawn = [one for one in associations(probe) if one.kind == "lines"]
    assert [len(one.lines) for one in drawn] == [2, 2]
    own, band = drawn[0].lines
    assert own.values == run.table("associations")["best_rank"].tolist()[: len(own.values)]
    assert all(
        low <= value <= high for low, value, high in zip(band.low, band.values, band.high, strict=True)
    )
