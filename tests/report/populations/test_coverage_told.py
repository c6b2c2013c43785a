"""The figures of a coverage: categories stand under what they are part of, claims beside what is true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from elimtool.report.figures.draw import picture
from elimtool.report.figures.figure import Forest
from elimtool.report.populations.coverage.figures import coverage_figures

NODE = {"title": None, "ci_low": 0.6, "ci_high": 0.9, "chance": 0.5, "covered": None}
TREE = [
    {**NODE, "node": "", "depth": 0, "n_items": 12, "accuracy": 0.75},
    {**NODE, "node": "a", "depth": 1, "n_items": 12, "accuracy": 0.75},
    {**NODE, "node": "a/b", "depth": 2, "n_items": 12, "accuracy": 0.75, "ci_low": 0.4},
    {**NODE, "node": "c", "depth": 1, "n_items": 0, "accuracy": None, "ci_low": None, "ci_high": None},
]


def bins(chain: str | None, claims: tuple[float, ...]) -> list[dict[str, Any]]:
    common = {"chain": chain, "stage": chain, "n": 20, "accuracy": 0.5, "ci_low": 0.3, "ci_high": 0.7}
    return [{**common, "bin": number, "confidence": one} for number, one in enumerate(claims)]


def drawn(*more: dict[str, Any]) -> list[Forest]:
    found = coverage_figures(TREE, [*bins(None, (0.4, 0.8)), *more], [])
    assert all(isinstance(one, Forest) for one in found)
    return found  # type: ignore[return-value]


def test_a_category_is_indented_under_the_one_that_it_is_part_of() -> None:
    tree = drawn()[0]
    assert [(one.label, one.depth) for one in tree.rows] == [("all", 0), ("a", 1), ("b", 2), ("c", 1)]
    assert [one.certain for one in tree.rows] == [True, True, False, False], "0.5 lies within b's interval"
    assert tree.rows[-1].value is None and tree.rows[-1].text == "no items"
    assert picture(tree).startswith(b"\x89PNG")


def test_a_claim_stands_beside_what_is_true_and_a_chain_without_effect_is_not_drawn() -> None:
    _, output, changed = drawn(*bins("hf", (0.6, 0.9)), *bins("vllm", (0.4 + 1e-9, 0.8)))
    assert [(one.mark, one.certain) for one in output.rows] == [(0.4, False), (0.8, True)]
    assert "after hf" in changed.title and changed.name == "coverage_reliability_2"
    assert picture(output) != picture(replace(output, rows=[replace(one, mark=None) for one in output.rows]))
