"""What rows carry and write, as ``trace --json`` prints it and ``batch`` keeps it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import elimtool as package
from tests.cli.conftest import Command

LONG = "The capital of France is a token that nobody reads twice, zzz qqq xxx yyy"
SHORT = "A token of the text"
TABLES = ("attention", "attention_layers", "contributions", "recovery", "source_spans")
OF_HEADS = ("attention_heads", "head_context", "sources")
ASKED = ("--tables", ",".join(TABLES), "--samplers", "hf", "--lens", "raw")
COLUMNS = {
    "attention": ("norm_share", "block_share", "contribution", "alignment"),
    "attention_heads": ("norm_share",),
    "attention_layers": ("mixing", "clipped", "sink_norm_share", "below_mean_mass", "context_90_even"),
    "contributions": ("contribution", "alignment", "length"),
    "head_context": ("context_90",),
    "recovery": ("n_keys", "starved", "expected", "carry_over"),
    "source_spans": ("dla", "dla_centred", "expected", "promoted", "top_dla"),
    "sources": ("dla", "dla_centred"),
}


@pytest.fixture(autouse=True)
def tiny_model(elimtool: Command, llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``elimtool``, which takes the variable away."""
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=2e-5)
    return bool(one == other)


def test_batch_keeps_what_trace_prints_as_json(elimtool: Command, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    lines = [{"id": f"p{n}", "prompt": text, "target": "is"} for n, text in enumerate((LONG, SHORT))]
    prompts.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    done = elimtool("batch", prompts, "-o", tmp_path / "run", *ASKED, "--json")
    assert done.code == 0
    summary = json.loads(done.out)
    kept = package.open_run(tmp_path / "run")
    assert set(kept.tables) == {"prompts", *TABLES}
    (found,) = {one["n_prompts"] for one in summary["recovery"]}
    assert found == 1 and {one["by"] for one in summary["recovery"]} == {"mass", "norm"}  # of the long one
    for number, text in enumerate((LONG, SHORT)):
        printed = elimtool("trace", text, "-t", "is", *ASKED, "--json")
        tables = json.loads(printed.out)["tables"]
        for name in TABLES:
            mine = [
                row for row in package.Run.to_dict(kept)["tables"][name] if row["prompt_id"] == f"p{number}"
            ]
            assert len(mine) == len(tables[name]) > 0, name
            for one, other in zip(mine, tables[name], strict=True):
                assert set(one) == set(other)
                wrong = [key for key in one if key != "prompt_id" and not same(one[key], other[key])]
                assert not wrong, (name, wrong, one, other)
            for column in COLUMNS[name]:
                known = [row[column] for row in tables[name] if row[column] is not None]
                assert known or (name == "recovery" and text == SHORT), (name, column)


def test_batch_leaves_single_heads_out_unless_they_are_asked_for(elimtool: Command, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": SHORT, "target": "is"}) + "\n", encoding="utf-8")
    quick = ("--samplers", "hf", "--lens", "raw")
    assert elimtool("batch", prompts, "-o", tmp_path / "plain", *quick).code == 0
    plain = package.open_run(tmp_path / "plain")
    assert {"attention", "attention_layers", "contributions", "source_spans"} <= set(plain.tables)
    assert not {*OF_HEADS} & set(plain.tables)
    assert elimtool("batch", prompts, "-o", tmp_path / "heads", *quick, "--heads").code == 0
    heads = package.open_run(tmp_path / "heads")
    for name in OF_HEADS:
        rows = heads.table(name)
        assert len(rows) and rows[list(COLUMNS[name])].notna().any().all(), name
