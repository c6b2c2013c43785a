"""Commands with ``--plugin``: a sampler, a metric and a lens of one's own, without installing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.plugins.conftest import forgotten

LEAD, FEW, CLIPPED = (f"--plugin=tests.plugins.parts:{name}" for name in ("Lead", "Few", "Clipped"))
__all__ = ["forgotten"]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "p.jsonl"
    records = [
        {"id": f"p{index}", "prompt": f"The capital {index} of", "targets": ["x"]} for index in range(3)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


@pytest.mark.slow
def test_a_trace_and_what_is_told_of_it(elimtool: Command, llama_directory: Path, tmp_path: Path) -> None:
    words = [
        "trace",
        "The capital of",
        "-t",
        "x",
        "-m",
        llama_directory,
        "--samplers",
        "few=7",
        "--lens",
        "clipped",
    ]
    done = elimtool(*words, LEAD, FEW, CLIPPED, "--tables", "lead,lens,sampling", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert "one row per position and layer" in elimtool("run", "show", tmp_path / "run").out
    assert "lead" in elimtool("run", "show", tmp_path / "run", "lead").out
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(told["plugins"]) == {"samplers", "metrics", "lenses"}


def test_a_batch_goes_on_with_the_same_plugin_alone(
    elimtool: Command, llama_directory: Path, prompts: Path, tmp_path: Path
) -> None:
    words: list[Any] = ["batch", prompts, "-m", llama_directory, "-o", tmp_path / "run", "--shard-size", "1"]
    words += ["--tables", "lead", "--samplers", "hf", "-q", LEAD]
    assert elimtool(*words).code == 0
    part = tmp_path / "run" / "lead" / "part-00001.parquet"
    before = part.read_bytes()
    part.unlink()
    assert elimtool(*words).code == 0
    assert part.read_bytes() == before
    state = tmp_path / "run" / ".batch" / "plan.json"
    plan = json.loads(state.read_text())
    from elimtool.run.manifest import Manifest

    plan["manifest"]["plugins"]["metrics"]["lead"]["sha256"] = "0" * 64
    plan["manifest"].pop("fingerprint")
    plan["manifest"] = Manifest.model_validate(plan["manifest"]).to_dict()
    state.write_text(json.dumps(plan))
    done = elimtool(*words)
    assert done.code == 2
    assert "was begun with other plugins.metrics.lead.sha256" in done.err


def test_samplers_list_has_it(elimtool: Command) -> None:
    assert "Keeps few tokens" in elimtool("samplers", "list", FEW).out
    assert "Keeps few tokens" in elimtool("samplers", "show", "few", FEW).out


def test_lens_eval_compares_it(elimtool: Command, llama_directory: Path) -> None:
    done = elimtool(
        "lens", "eval", "-m", llama_directory, "--lens", "clipped", CLIPPED, "--samples", "8", "--json"
    )
    assert done.code == 0, done.err
    assert {one["lens"] for one in json.loads(done.out)["layers"]} == {"raw", "clipped"}


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("nowhere_at_all:X", "'nowhere_at_all:X' cannot be loaded: ModuleNotFoundError"),
        ("tests.plugins.parts:Nothing", "cannot be loaded: AttributeError"),
        ("tests.plugins.parts:number", "is neither a stage's class, a metric's, nor a lens"),
        ("tests.plugins.parts", "--plugin must be like MODULE:NAME"),
    ],
)
def test_what_cannot_be_a_plugin_is_said_in_a_line(elimtool: Command, plugin: str, said: str) -> None:
    for words in (("trace", "x"), ("samplers", "list")):
        done = elimtool(*words, "--plugin", plugin)
        assert done.code == 2 and said in done.err and "Traceback" not in done.err
