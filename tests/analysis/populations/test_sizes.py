"""How many tokens a setting keeps: bounds from falloffs hold what is counted on the distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.analysis.populations.coverage.api import TABLES, coverage
from elimtool.analysis.populations.coverage.sizes import Falloffs
from elimtool.metrics.falloff import drawn, falloff
from elimtool.run.tables.falloff import EDGES, STEPS


def test_tokens_are_counted_by_their_distance_from_the_most_probable_one() -> None:
    logits = torch.tensor(
        [[3.0, 3.0, 2.999, 0.05, -40.0, -torch.inf], [0.0, -0.98, -1.98, -2.98, -3.98, -4.98]]
    )
    counts, masses = falloff(logits.log_softmax(-1))
    assert counts.shape == (2, EDGES + 1)
    assert counts[0, [0, 1, 3 * STEPS - 1, 3 * STEPS, EDGES - 1, EDGES]].tolist() == [2, 3, 3, 4, 4, 6]
    assert counts[1, [0, STEPS, 5 * STEPS]].tolist() == [1, 2, 6]
    np.testing.assert_allclose(masses[:, EDGES], 1, rtol=1e-6)
    np.testing.assert_allclose(masses[1, STEPS], logits[1].softmax(-1)[:2].sum(), rtol=1e-6)


@pytest.mark.parametrize("spread", [0.5, 2.0, 6.0])
def test_bounds_hold_the_number_of_tokens_that_a_setting_keeps(spread: float) -> None:
    logits = spread * torch.randn(40, 3000, generator=torch.Generator().manual_seed(1))
    logprobs = logits.log_softmax(-1)
    counts, masses = (one.numpy().astype(float) for one in falloff(logprobs))
    some = Falloffs(counts, masses.astype("float32").astype(float), np.full(40, 1 / 40))
    probs = np.sort(logprobs.double().exp().numpy(), 1)[:, ::-1]
    before = probs.cumsum(1) - probs
    for setting in (1e-3, 0.1, 0.5, 0.84, 0.9, 0.99, 0.9999):
        kept = (before < setting).sum(1)
        low, high, likely = some.top_p(setting)
        assert (low <= kept).all() and (kept <= high).all(), setting
        if setting <= 0.99:  # beyond 16 nats from the first all tokens lie in one step
            assert (high - low <= 1 + 0.12 * kept).all()
            assert likely.mean() == pytest.approx(kept.mean(), rel=0.03, abs=1)
    for setting in (1.0, 0.5, 0.1, 0.005, 1e-5):
        kept = (probs >= setting * probs[:, :1]).sum(1)
        low, high, likely = some.min_p(setting)
        assert (low <= kept).all() and (kept <= high).all(), setting
        assert likely.mean() == pytest.approx(kept.mean(), rel=0.05, abs=1)


def test_the_mean_size_is_that_of_the_setting_as_a_chain(tiny: Any) -> None:
    texts = ["the cat sat", "a b c d", "once upon", "in the end", "red and blue", "two of three", "so it is"]
    prompts = [
        Prompt(text=f"{text} {more}", targets=(" e",), id=f"{text}{more}") for text in texts for more in "ab"
    ]
    run = elimtool.trace(tiny, prompts, options=TraceOptions(tables=TABLES, samplers=("temperature=1",)))
    rows = coverage(run).arrow("conformal").to_pylist()
    asked = {one["sampler"]: one for one in rows if one["alpha"] == 0.1}
    for sampler in ("top_p", "min_p"):
        one = asked[sampler]
        chain = f"{sampler}={one['setting']!r}"
        options = TraceOptions(tables=("sampling",), samplers=(chain,))
        exact = elimtool.trace(tiny, prompts, options=options).table("sampling")["n_after"].mean()
        assert one["size_low"] <= exact <= one["size_high"], sampler
        assert one["mean_size"] == pytest.approx(exact, rel=0.1)
    assert asked["top_k"]["mean_size"] == asked["top_k"]["size_low"] == asked["top_k"]["setting"]

    tables = {name: run.arrow(name) for name in run.tables if name != "falloff"}
    without = coverage(elimtool.Run.from_tables(run.manifest, tables))
    sizes = {one["sampler"]: one["mean_size"] for one in without.arrow("conformal").to_pylist()}
    assert sizes["top_p"] is sizes["min_p"] is None and sizes["top_k"] is not None
    assert any("falloff among the `tables`" in note for note in without.manifest.notes)


def test_of_a_text_that_is_scored_one_position_has_a_falloff_and_counts_once(tiny: Any) -> None:
    texts = [Prompt(text=f"the {word} is red", id=word, scored="no-prefix") for word in ("cat", "dog", "b")]
    options = TraceOptions(tables=("survival", "falloff"), samplers=("temperature=1",))
    run = elimtool.trace(tiny, texts, options=options)
    found = run.table("falloff")
    assert found["prompt_id"].tolist() == ["cat", "dog", "b"]
    lengths = run.table("survival").groupby("prompt_id", sort=False)["position"].nunique()
    assert found["position"].tolist() == [drawn(name, count) for name, count in lengths.items()]
    places = run.table("survival")[["prompt_id", "position"]]
    falloffs = Falloffs.of(run, places)
    assert falloffs is not None and falloffs.weights.tolist() == [1 / 3] * 3
    assert "falloff" not in elimtool.trace(tiny, "the cat", options=TraceOptions()).tables
