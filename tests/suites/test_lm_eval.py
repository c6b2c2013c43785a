"""Minimal pairs score as the lm-evaluation-harness scores them, to the last pair.

The harness's values were computed by scripts/lm_eval_values.py in an environment of its own: see the file for
its version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.prompts.prompt import Prompt
from elimtool.suites.read import open_prompts

VALUES = Path(__file__).parents[1] / "data" / "lm_eval_pairs.json"


@pytest.mark.smollm2
@pytest.mark.slow
@pytest.mark.parametrize("each", [6, pytest.param(1, marks=pytest.mark.long)])
def test_pairs_score_as_in_the_harness(smollm2: Any, tmp_path: Path, each: int) -> None:
    expected = json.loads(VALUES.read_text(encoding="utf-8"))
    pairs = expected["pairs"][::each]  # all 201 take two minutes
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({key: one[key] for key in ("good", "bad")}) + "\n" for one in pairs))
    opened, _ = open_prompts(file, rule="lm-eval")
    with opened:
        prompts = [one.prompt for one in opened.records() if isinstance(one.prompt, Prompt)]
    assert len(prompts) == 2 * len(pairs) == {1: 402, 6: 68}[each]
    options = elimtool.TraceOptions(tables=("survival",), samplers=(), lens="raw", batch_size=32)
    rows = elimtool.trace(smollm2, prompts, options=options).arrow("survival")
    sums = rows.group_by("prompt_id").aggregate([("target_logprob", "sum")]).to_pydict()
    scores = dict(zip(sums["prompt_id"], sums["target_logprob_sum"], strict=True))
    for number, one in enumerate(pairs, 1):
        found = [scores[f"{number}/{side}"] for side in ("good", "bad")]
        # both in float32, over batches of other shapes
        assert found == pytest.approx(one["scores"], abs=2e-3)
        assert (found[0] >= found[1]) == bool(one["acc"])
    if each == 1:
        accuracy = sum(one["acc"] for one in pairs) / len(pairs)
        assert accuracy == pytest.approx(expected["acc"])
