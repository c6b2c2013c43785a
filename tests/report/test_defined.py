"""Every number of a figure is defined by the schema of the table that it comes from."""

from __future__ import annotations

import ast
from pathlib import Path

import elimtool.report
from elimtool.report.figures.compare.overview import COMPARED
from elimtool.report.figures.compare.pair import PAIR
from elimtool.report.figures.defined import COLUMNS, column_of, definitions
from elimtool.report.figures.overview import OVERVIEW
from elimtool.report.figures.prompt import PROMPT
from elimtool.run.columns import BOOL, STRING

OF_TEXTS = {"mapped_heads", "brought"}
"""Figures whose numbers are those of a map or of a plugin, which have their own words."""
OF_LAYERS = {"map_layers", "map_layer_table", "map_strip", "map_heads", "map_head_examples"}
"""Figures of a map whose rows or columns are named after what they hold, and explained beside them."""
OF_METRICS = {"audit_effects.difference", "audit_effects.mean_a", "head_pairs.cka"}
"""Columns whose unit is that of the row's metric, which the figure's axis names, or that have none."""
PREFIXES = ("audit_", "coverage_", "sweep_", "map_")
FOUND = Path(elimtool.report.__file__).parent


def test_every_figure_of_a_prompt_or_a_pair_says_what_its_numbers_are() -> None:
    named = {name.partition(":")[0] for name in COLUMNS}
    assert {*PROMPT, *PAIR, *OVERVIEW, *COMPARED} - OF_TEXTS <= named


def test_every_figure_of_a_population_or_a_map_says_what_its_numbers_are() -> None:
    names = set()
    for folder in ("populations", "map"):
        for file in sorted((FOUND / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.keyword) and node.arg == "name":
                    first = node.value.values[0] if isinstance(node.value, ast.JoinedStr) else node.value
                    if isinstance(first, ast.Constant) and str(first.value).startswith(PREFIXES):
                        names.add(first.value)
    named = {name.partition(":")[0] for name in COLUMNS}
    assert {"coverage_tree", "sweep_effects", "map_roles"} <= names
    assert names - OF_LAYERS <= named
    assert {f"audit_{one}" for one in ("effects", "survival", "attention", "lens", "stages")} <= named


def test_definitions_are_the_schema_s_own_words_with_unit_and_range() -> None:
    for figure, numbers in COLUMNS.items():
        for name, place in numbers.items():
            column, told = column_of(place), definitions()[figure][name]
            counted = column.type in (STRING, BOOL)  # how many rows say each of its values
            assert column.unit or counted or place in OF_METRICS, f"{place} of {figure} has no unit"
            assert told.startswith(column.description)
            assert f"Unit: {column.unit}." in told or not column.unit
            assert column.range in told and column.null_when in told
