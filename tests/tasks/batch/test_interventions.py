"""Interventions and causal tests over prompt files: as a trace does them, each failure its own prompt's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import elimtool
from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError
from elimtool.model.interventions import Ablate, Knockout, Scale
from elimtool.tasks import confirm
from tests.engine.test_engine import assert_same
from tests.tasks.batch.conftest import QUICK, Batch, write_prompts


def test_interventions_and_confirmed_verdicts_equal_those_of_a_trace(
    batch: Batch, llama: Any, tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 6)
    options = TraceOptions(
        samplers=("hf",),
        lens="raw",
        heads=True,
        errors="row",
        interventions=(Ablate("1.2"), Scale.parse("mlp.0=0.5")),
        confirm=True,
    )
    standing = batch(prompts, tmp_path / "run", options, shard_size=4)
    assert standing.errors == 0
    run = elimtool.open_run(tmp_path / "run")
    assert run.interventions == "ablate 1.2 mean; scale mlp.0=0.5"
    records = [json.loads(line) for line in prompts.read_text().splitlines()]
    asked = [elimtool.Prompt(text=one["prompt"], id=one["id"], targets=("of",)) for one in records]
    alone = elimtool.trace(llama, asked, options=options)
    filled = [{name for name in one.tables if one.arrow(name).num_rows} for one in (run, alone)]
    assert filled[0] == filled[1]
    assert run.manifest.config["reference"] == alone.manifest.config["reference"]
    for name in ("verdicts", "effects", "lens", "components"):
        for intervention in (None, run.interventions):
            told, expected = run.under(intervention).table(name), alone.under(intervention).table(name)
            assert_same(told, expected, name)
    assert run.table("verdicts")["eliminator_effect"].notna().any()
    part = pq.read_table(tmp_path / "run" / "lens" / "part-00000.parquet")
    plain = part.column("intervention").is_null().to_pylist()
    assert plain == sorted(plain, reverse=True) and len(set(plain)) == 2


def test_an_intervention_that_does_not_fit_costs_its_own_prompt(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"prompt": "the capital of France", "id": "a", "spans": {"country": "France"}}\n'
        '{"prompt": "the token", "id": "b"}\n'
    )
    options = replace(QUICK, interventions=(Knockout.parse("country@0-1"),))
    standing = batch(path, tmp_path / "run", options)
    assert (standing.prompts, standing.errors) == (2, 1)
    rows = elimtool.open_run(tmp_path / "run").prompts.set_index("prompt_id")
    assert "does not name a span of the prompt" in rows.loc["b", "error_message"]
    with pytest.raises(ElimError, match="has no layer 99"):
        batch(path, tmp_path / "other", replace(QUICK, interventions=(Knockout.parse("country@98-99"),)))


def test_a_failing_causal_test_costs_its_own_prompt(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 3)
    real = confirm.log_probabilities

    def flaky(model: Any, prompts: Any, *rest: Any) -> Any:
        if prompts[0].prompt_id == "p1":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, prompts, *rest)

    monkeypatch.setattr(confirm, "log_probabilities", flaky)
    options = replace(QUICK, heads=True, confirm=True)
    standing = batch(prompts, tmp_path / "run", options)
    assert (standing.prompts, standing.errors) == (3, 1)
    run = elimtool.open_run(tmp_path / "run")
    assert run.prompts.set_index("prompt_id").loc["p1", "error_type"] == "OutOfMemoryError"
    assert set(run.table("verdicts")["prompt_id"]) == set(run.table("lens")["prompt_id"]) == {"p0", "p2"}
