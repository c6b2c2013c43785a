"""Two prompts on SmolLM2: exchanged, and known facts about both."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool import TraceOptions
from elimtool.tasks.compare.asked import Controls
from elimtool.tasks.compare.prompts import compare_prompts

from .test_prompts import assert_exchanged

pytestmark = [pytest.mark.smollm2, pytest.mark.slow]

A, B = "The capital of France is", "The capital of Germany is"
TABLES = ("lens", "survival", "sampling_targets", "attention", "verdicts")
OPTIONS = TraceOptions(lens="raw", samplers=("llama.cpp",), tables=TABLES)


def test_exchanging_two_prompts_and_the_common_prefix(smollm2: Any) -> None:
    given = {"targets": ["Paris", "Berlin"], "options": OPTIONS, "controls": Controls(count=0)}
    there, back = compare_prompts(smollm2, A, B, **given), compare_prompts(smollm2, B, A, **given)
    for name in there.tables:
        assert_exchanged(name, there.table(name), back.table(name))
    pair = there.table("pairs").iloc[0]
    assert (pair["top_token_a"], pair["top_token_b"]) == (" Paris", " Berlin")
    assert pair["n_common_prefix"] == 3 and pair["prefix_holds"] and pair["prefix_difference"] < 1e-5
    verdicts = there.table("verdict_differences").set_index("target")
    assert verdicts.loc["Paris", "outcome_a"] == verdicts.loc["Berlin", "outcome_b"] == "survived"
    flips = there.table("flips")
    berlin = flips[(flips["token"] == " Berlin") & (flips["where"] == "layer")]
    assert berlin["eliminated_in"].tolist() == ["a"]
    divergence = there.table("divergence").set_index("layer")
    assert divergence.loc[-1, "js"] == 0 and divergence.loc[29, "js"] == pair["js_output"] > 0.5
