"""What parts wrote and rows carry on two sides: the differences of two runs, by target, part and layer."""

from __future__ import annotations

from typing import Any

import numpy as np

import elimtool
from elimtool.analysis.compare.runs import compare_runs
from elimtool.run.reader import Run
from elimtool.run.tables.comparison.attention import CARRIED
from elimtool.run.tables.comparison.layers import CARRIED_LAYERS

TEXT = "The capital of France is"


def run(model: Any, text: str = TEXT) -> Run:
    prompt = elimtool.Prompt(text=text, targets=(" is", " of"), id="one")
    return elimtool.trace(model, prompt, options=elimtool.TraceOptions(samplers=()))


def test_parts_are_compared_by_name_and_target(llama: Any) -> None:
    one, other = run(llama), run(llama, "The text of France is")
    same = compare_runs(one, one).table("source_differences")
    assert len(same) == one.arrow("source_spans").num_rows
    assert (same["dla_centred_difference"].dropna() == 0).all()
    found = compare_runs(one, other).table("source_differences").set_index(["target", "span"])
    sides = [each.table("source_spans").set_index(["target", "span"])["dla_centred"] for each in (one, other)]
    both = sides[0].index.intersection(sides[1].index)
    assert set(found.index) == set(both) and len(both) > 6
    apart = (sides[1] - sides[0]).reindex(found.index)
    assert apart.abs().max() > 1e-3
    np.testing.assert_allclose(found["dla_centred_difference"], apart)
    back = compare_runs(other, one).table("source_differences").set_index(["target", "span"])
    np.testing.assert_allclose(
        back["promoted_difference"].reindex(found.index), -found["promoted_difference"]
    )


def test_what_rows_carry_is_compared_like_what_they_weigh(llama: Any) -> None:
    one, other = run(llama), run(llama, "The text of France is")
    found, back = compare_runs(one, other), compare_runs(other, one)
    for table, source, keys, names in (
        ("attention_differences", "attention", ["layer", "span"], CARRIED),
        ("layer_differences", "attention_layers", ["layer"], CARRIED_LAYERS),
    ):
        rows, turned = (each.table(table).set_index(keys) for each in (found, back))
        a, b = (each.table(source).set_index(keys) for each in (one, other))
        for name in names:
            apart = (b[name] - a[name]).reindex(rows.index).astype(float)
            assert name == "null_mass" or apart.abs().max() > 1e-3  # llama gives nothing to no token
            np.testing.assert_allclose(rows[f"{name}_difference"].astype(float), apart, atol=1e-12)
            for side, values in (("a", a), ("b", b)):
                np.testing.assert_array_equal(
                    rows[f"{name}_{side}"].astype(float), values[name].reindex(rows.index).astype(float)
                )
            np.testing.assert_allclose(
                turned[f"{name}_difference"].reindex(rows.index).astype(float), -apart, atol=1e-12
            )
