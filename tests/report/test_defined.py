"""Every number of a figure is defined by the schema of the table that it comes from."""

from __future__ import annotations

from elimtool.report.figures.compare.pair import PAIR
from elimtool.report.figures.defined import COLUMNS, column_of, definitions
from elimtool.report.figures.prompt import PROMPT

OF_TEXTS = {"mapped_heads", "brought"}
"""Figures whose numbers are those of a map or of a plugin, which have their own words."""


def test_every_figure_of_a_prompt_or_a_pair_says_what_its_numbers_are() -> None:
    named = {name.partition(":")[0] for name in COLUMNS}
    assert {*PROMPT, *PAIR} - OF_TEXTS <= named


def test_definitions_are_the_schema_s_own_words_with_unit_and_range() -> None:
    for figure, numbers in COLUMNS.items():
        for name, place in numbers.items():
            column, told = column_of(place), definitions()[figure][name]
            assert column.unit, f"{place} of {figure} has no unit"
            assert told.startswith(column.description) and f"Unit: {column.unit}." in told
            assert column.range in told and column.null_when in told
