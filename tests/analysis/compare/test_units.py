"""What is resampled: templates, else groups, else pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import elimtool
from elimtool.analysis.compare.runs import compare_runs
from elimtool.prompts.design import Design

OPTIONS = elimtool.TraceOptions(samplers=("hf",), lens="raw", tables=("lens", "survival"))


@pytest.mark.parametrize(("named", "units"), [("template", 2), ("group", 3), ("", 6)])
def test_a_unit_is_a_template_before_a_group_and_counts_once(
    named: str, units: int, llama: Any, other_llama: Any
) -> None:
    prompts = [
        elimtool.Prompt(
            text=f"Number {number} is followed by",
            id=str(number),
            targets=("x",),
            group=f"group {number // 2}" if named else None,
            design=Design(template="few" if number < 1 else "many") if named == "template" else Design(),
        )
        for number in range(6)
    ]
    a, b = (elimtool.trace(model, prompts, options=OPTIONS) for model in (llama, other_llama))
    found = compare_runs(a, b)
    rows = found.table("statistics")
    row = rows[(rows["metric"] == "lens_differences.logprob") & (rows["scope"] == "all")].iloc[-1]
    assert (row["n_pairs"], row["n_units"]) == (6, units)
    each = found.table("lens_differences")
    last = each[(each["layer"] == each["layer"].max()) & ~each["is_foil"]].set_index("pair_id")
    moves = last["logprob_difference"]
    if named == "template":
        wanted = (moves["0"] + moves[[str(n) for n in range(1, 6)]].mean()) / 2
        assert row["mean_difference"] == pytest.approx(wanted)
    assert row["mean_b"] - row["mean_a"] == pytest.approx(row["mean_difference"])
    assert replace(prompts[0], design=Design()).said().get("design") is None
