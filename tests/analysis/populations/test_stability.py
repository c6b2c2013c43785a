"""Stability of concepts over variants of made-up runs: copies, flips, controls, order, several runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from elimtool.analysis.populations.sweep.api import sweep
from elimtool.analysis.populations.sweep.stability import agreement, mass_stability
from elimtool.report.populations.sections import SECTIONS
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from tests.analysis.populations.made_up import Truth, population_run
from tests.analysis.populations.test_sweep import made

Alive = Callable[[str, int, int], tuple[bool, float]]
"""Prompt, control (-1 for the concept) and layer (9 for the stage) -> alive and mass."""


def followed(alive: Alive, top: Callable[[str], list[int]] | None = None, reverse: bool = False) -> Run:
    run = made(lambda *_: 1.0, items=3)
    prompts = run.arrow("prompts").to_pylist()
    rows = []
    for prompt in prompts:
        for control in range(-1, 20):
            for layer in (-1, 0, 1, 9):
                is_alive, mass = alive(prompt["prompt_id"], control, layer)
                rows.append(
                    {
                        "prompt_id": prompt["prompt_id"], "position": 2, "concept": "snow",
                        "control": None if control < 0 else control, "n_tokens": 2,
                        "layer": None if layer == 9 else layer, "chain": "hf" if layer == 9 else None,
                        "stage_index": 0 if layer == 9 else None, "stage": "min_p" if layer == 9 else None,
                        "alive": is_alive, "mass": mass, "intervention": None,
                    }
                )  # fmt: skip
    more = {"concepts": TABLES["concepts"].from_rows(rows)}
    if top is not None:
        tokens = [
            {"prompt_id": prompt["prompt_id"], "position": 2, "place": place + 1, "token": str(token),
             "token_id": token, "logprob": -1.0, "prob": 0.3, "intervention": None}
            for prompt in prompts
            for place, token in enumerate(top(prompt["prompt_id"]))
        ]  # fmt: skip
        more["top_tokens"] = TABLES["top_tokens"].from_rows(tokens)
    tables = {name: run.arrow(name) for name in run.tables} | more
    if reverse:
        tables = {name: table.take(list(range(table.num_rows))[::-1]) for name, table in tables.items()}
    return Run.from_tables(run.manifest, tables)


def rows_of(*runs: Run) -> list[dict[str, Any]]:
    named = {f"run {index}": run for index, run in enumerate(runs)}
    return sweep(named).arrow("stability").to_pylist()


def by_case(prompt: str, control: int, layer: int) -> tuple[bool, float]:
    """The concept is there in small letters alone at the output; control sets are never there."""
    there = control < 0 and layer in (1, 9) and "small" in prompt
    return there, 0.4 if there else 0.0


def test_copies_of_one_variant_agree_wholly() -> None:
    rows = rows_of(followed(lambda *_: (True, 0.25), lambda _: [4, 2, 7, 1]))
    assert {row["key"] for row in rows} == {"item 00", "item 01", "item 02", "all"}
    for row in rows:
        assert (row["membership"], row["agreement"], row["flips"]) == (1, 1, 0)
        assert row["mass_stability"] == pytest.approx(1) and row["over"] == "variants"
        assert (row["excess"], row["p_value"]) == (0, 1)
        if row["layer"] == 1:
            assert row["rbo"] == pytest.approx(1) and row["rbo_smallest"] == row["rbo_largest"] == 3
        else:
            assert row["rbo"] is None


def test_a_concept_that_flips_with_the_wording_is_less_stable_than_one_that_is_never_there() -> None:
    found = {(row["key"], row["layer"]): row for row in rows_of(followed(by_case))}
    one = found["item 00", 1]
    assert (one["n"], one["membership"], one["flips"]) == (6, 0.5, 3)
    assert one["agreement"] == pytest.approx(2 * 3 / 15)  # of 15 pairs, 3 within each half
    assert (one["control_agreement"], one["excess"]) == (1, pytest.approx(0.4 - 1))
    assert one["p_value"] == 1
    halves = [0.4] * 3 + [0.0] * 3
    pairs = [jensenshannon([p, 1 - p], [q, 1 - q], 2) ** 2 for p, q in combinations(halves, 2)]
    assert one["mass_stability"] == pytest.approx(1 - np.mean(pairs))
    assert found["all", 1]["n"] == 18 and found["all", 1]["flips"] == 9
    assert found["all", 0]["flips"] == 0 and found["all", 0]["p_value"] == 1


def test_a_concept_more_stable_than_sets_as_frequent_has_a_small_p() -> None:
    def alive(prompt: str, control: int, layer: int) -> tuple[bool, float]:
        return control < 0 or (ord(prompt[0]) + control + len(prompt)) % 2 == 0, 0.1

    row = next(row for row in rows_of(followed(alive)) if row["key"] == "all" and row["layer"] == 1)
    assert row["excess"] > 0 and row["p_value"] == pytest.approx(1 / 21)


def test_the_order_of_variants_does_not_matter() -> None:
    names = ("membership", "agreement", "mass_stability", "control_agreement", "rbo", "p_value")
    one, other = (
        {
            (row["key"], row["layer"], row["chain"]): [row[name] for name in names]
            for row in rows_of(followed(by_case, lambda name: [len(name), 1, 5, 2], reverse))
        }
        for reverse in (False, True)
    )
    assert one.keys() == other.keys()
    for key, values in one.items():
        for a, b in zip(values, other[key], strict=True):
            assert a == (None if b is None else pytest.approx(b))


def test_runs_are_variants_of_each_prompt() -> None:
    rows = rows_of(followed(by_case), followed(lambda *_: (False, 0.0)))
    assert {row["over"] for row in rows} == {"runs"}
    (row,) = [row for row in rows if row["key"] == "ask/small/0" and row["layer"] == 1]
    assert (row["n"], row["agreement"], row["flips"]) == (2, 0, 1)
    (row,) = [row for row in rows if row["key"] == "ask/CAPITALS/0" and row["layer"] == 1]
    assert (row["agreement"], row["flips"]) == (1, 0)


def test_flips_count_from_the_first_variant_and_are_null_where_it_was_not_measured() -> None:
    run = followed(by_case)
    names = run.arrow("prompts")["prompt_id"].to_pylist()
    left = [index for index, name in enumerate(names) if name != "ask/small/0"]
    tables = {name: run.arrow(name) for name in run.tables} | {"prompts": run.arrow("prompts").take(left)}
    rows = rows_of(Run.from_tables(run.manifest, tables))
    found = {(row["key"], row["layer"]): row for row in rows}
    assert found["item 00", 1]["flips"] is None and found["item 00", 1]["reference"] is None
    assert found["item 00", 1]["n"] == 5 and found["item 01", 1]["flips"] == 3
    assert found["all", 1]["flips"] == 6 and found["all", 1]["reference"] == "ask/small"


def test_edits_of_a_tuple_are_set_against_the_wording_without_the_word() -> None:
    run = population_run(Truth(templates=2, words=3, layers=2, neutral=True))
    rows = [
        {
            "prompt_id": name, "position": 3, "concept": "snow", "control": None, "n_tokens": 1, "layer": 1,
            "chain": None, "stage_index": None, "stage": None, "alive": "/second" in name, "mass": 0.1,
            "intervention": None,
        }
        for name in run.arrow("prompts")["prompt_id"].to_pylist()
    ]  # fmt: skip
    tables = {name: run.arrow(name) for name in run.tables}
    table = TABLES["concepts"].from_rows(rows)
    found = sweep(Run.from_tables(run.manifest, {**tables, "concepts": table}))
    edits = [row for row in found.arrow("stability").to_pylist() if row["over"] == "edits"]
    assert len(edits) == 7 and {row["reference"] for row in edits} == {"neutral"}
    whole = edits[-1]  # of each tuple the neutral wording, and two groups of which one is alive
    assert (whole["key"], whole["n"], whole["flips"]) == ("all", 18, 6)
    assert whole["agreement"] == pytest.approx(1 / 3) and whole["membership"] == pytest.approx(1 / 3)
    told = "; ".join(SECTIONS["sweep"](found).told)
    assert "'snow' is alive in 6 of 18 edits at the output; edits of one tuple agree" in told


def test_the_story_says_where_variants_part() -> None:
    told = SECTIONS["sweep"](sweep({"run": followed(by_case)})).told[-1]
    assert "'snow' is alive in 9 of 18 wordings at the output, in 9 of 18 after hf" in told
    assert "sets as frequent: 100 %" in told and "they part after layer 1" in told


def test_agreement_and_mass_at_their_ends() -> None:
    assert agreement(np.array([True, True, False])) == pytest.approx(1 / 3)
    assert agreement(np.array([True, False])) == 0 and agreement(np.array([False, False])) == 1
    assert mass_stability(np.array([0.0, 1.0])) == 0 and mass_stability(
        np.array([0.3, 0.3])
    ) == pytest.approx(1)
