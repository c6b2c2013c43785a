"""Sweeps of made-up runs: planted effects, gaps, several runs, and searches with few calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from elimtool.analysis.populations.sweep.api import SweepOptions, sweep
from elimtool.errors import ElimError, Exit
from elimtool.report.populations.sections import SECTIONS
from elimtool.report.screen import Screen
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from tests.report.synthetic import _manifest as manifest
from tests.report.synthetic import fitted

CASES, TEMPLATES = ("small", "CAPITALS"), ("ask", "tell", "list")


def made(value: Callable[[str, str, int], float], items: int = 12, skip: int | None = None) -> Run:
    """A run of templates x cases x items, with the outcome that a function gives."""
    rows: dict[str, list[dict[str, Any]]] = {"prompts": [], "survival": [], "sampling_targets": []}
    for template in TEMPLATES:
        for case in CASES:
            for item in range(items):
                if skip == item and template == "ask" and case == "small":
                    continue
                name = f"{template}/{case}/{item}"
                slots = json.dumps({"case": case, "item": f"item {item:02}"})
                rows["prompts"].append(
                    {"prompt_id": name, "status": "ok", "text": name, "n_tokens": 3, "n_written": 0,
                     "template": template, "slots": slots, "targets": ["x"], "foils": []}
                )  # fmt: skip
                got = value(template, case, item)
                at = {"prompt_id": name, "position": 2, "target": "x"}
                rows["survival"].append(
                    {**at, "ambiguous": False, "rank": 1 + 9 * (got < 0.5), "target_logprob": got - 2}
                )
                for index, stage in enumerate(("top_k", "min_p")):
                    rows["sampling_targets"].append(
                        {**at, "chain": "hf", "stage_index": index, "stage": stage, "kind": stage,
                         "alive_before": True, "alive_after": got >= 0.5 or index == 0, "margin": got - 0.5}
                    )  # fmt: skip
    return Run.from_tables(
        manifest("tiny"), {name: TABLES[name].from_rows(fitted(name, some)) for name, some in rows.items()}
    )


def capitals_cost(template: str, case: str, item: int) -> float:
    chance = np.random.default_rng([len(template), len(case), item])
    return float(chance.random() < (0.2 if case == "CAPITALS" else 0.9))


@pytest.fixture(scope="module")
def run() -> Run:
    return made(capitals_cost)


def test_a_planted_effect_is_found_at_its_factor(run: Run) -> None:
    found = sweep({"run": run})
    effects = {(row["factor"], row["level"]): row for row in found.arrow("sweep_effects").to_pylist()}
    assert {factor for factor, _ in effects} == {"template", "case"}
    loud = effects["case", "CAPITALS"]
    assert loud["main_effect"] == pytest.approx(-effects["case", "small"]["main_effect"])
    assert loud["p_adjusted"] < 0.01 and loud["against_best"] < -0.4 and loud["ci_high"] < 0
    assert all(row["p_adjusted"] > 0.05 for (factor, _), row in effects.items() if factor == "template")
    (spread,) = found.arrow("sweep_spread").to_pylist()
    assert spread["p_value"] < 0.01 and spread["spread_holdout"] > 0.3
    assert (spread["n_variants"], spread["n_items"], spread["n_calls"]) == (6, 12, 72)
    variants = found.arrow("sweep_variants").to_pylist()
    assert {json.loads(row["factors"])["case"] for row in variants[:3]} == {"small"}
    assert [row["place"] for row in variants] == sorted(row["place"] for row in variants)
    values = {row["variant"]: row["value"] for row in variants}
    for template in TEMPLATES:
        expected = np.mean([capitals_cost(template, "small", item) for item in range(12)])
        assert values[f"{template}/small"] == pytest.approx(expected)


def test_other_outcomes(run: Run) -> None:
    by_rank = sweep({"run": run}, SweepOptions("rank"))
    first = by_rank.arrow("sweep_variants").to_pylist()[0]
    assert json.loads(first["factors"])["case"] == "small" and first["chain"] is None
    assert first["value"] == by_rank.table("sweep_variants")["value"].min()
    margins = sweep({"run": run}, SweepOptions("margin:min_p")).table("sweep_variants")
    share = sweep({"run": run}).table("sweep_variants")
    np.testing.assert_allclose(sorted(margins["value"] + 0.5), sorted(share["value"]))


def test_a_gap_drops_what_has_most_gaps() -> None:
    found = sweep({"run": made(capitals_cost, skip=5)})
    assert found.table("sweep_variants")["n_items"].unique().tolist() == [11]
    assert "5 prompts are left out so that all variants have the same items." in found.manifest.notes


def test_several_runs_are_a_factor(run: Run) -> None:
    found = sweep({"good": run, "bad": made(lambda *_: 0.0)})
    effects = found.table("sweep_effects").query("factor == 'run'").set_index("level")
    assert effects.loc["bad", "main_effect"] < -0.2 < 0.2 < effects.loc["good", "main_effect"]
    assert found.table("sweep_spread")["n_variants"].tolist() == [12]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (SweepOptions("survive"), "`outcome` 'survive'"),
        (SweepOptions("margin:top_p"), "no stage 'top_p'"),
        (SweepOptions(chain="vllm"), "`chain` 'vllm'"),
    ],
)
def test_what_is_not_there_is_named(run: Run, options: SweepOptions, told: str) -> None:
    with pytest.raises(ElimError, match=told):
        sweep({"run": run}, options)


def test_one_item_is_nothing_to_sweep() -> None:
    with pytest.raises(ElimError, match="1 items") as error:
        sweep({"run": made(capitals_cost, items=1)})
    assert error.value.exit_code == Exit.NOTHING


@pytest.mark.parametrize("outcome", ["survives", "logprob"])
def test_the_story_says_what_is_chance(run: Run, outcome: str) -> None:
    section = SECTIONS["sweep"](sweep({"run": run}, SweepOptions(outcome)))
    assert "6 variants x 12 items" in section.told[0] and "(chance " in section.told[0]
    assert "remain held out" in section.told[0]
    assert any(
        "case 'CAPITALS' is " in one and " below the mean of its levels" in one for one in section.told
    )
    assert [one.name for one in section.figures] == ["sweep_matrix", "sweep_effects"]
    matrix = section.figures[0]
    assert (len(matrix.rows), list(matrix.columns)) == (3, ["small", "CAPITALS"])
    means = [sum(row) for row in matrix.values]
    assert means == sorted(means, reverse=True), "the note says that the best rows come first"
    assert all(len(line.plain) <= 80 for line in section.lines(Screen(80)))
