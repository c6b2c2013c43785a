"""``elimtool compare`` in each of its forms: what it prints, writes, leaves with, and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import elimtool as package
from elimtool.run import Run, open_run
from elimtool.run.comparison import open_comparison
from tests.cli.conftest import Command
from tests.families import save

RECORDS = [
    {"prompt": "The capital of France is", "id": "France", "targets": ["Paris"]},
    {"prompt": "The capital of Spain is", "id": "Spain", "targets": ["Paris"]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """Two models, a run of each, and prompt files."""
    made = tmp_path_factory.mktemp("compare")
    prompts = [package.Prompt(text=r["prompt"], id=r["id"], targets=tuple(r["targets"])) for r in RECORDS]  # type: ignore[arg-type]
    options = package.TraceOptions(samplers=("llama.cpp", "hf"), lens="raw")
    for name, seed in (("a", 0), ("b", 9)):
        save("llama", made / f"model-{name}", tokenizer, seed=seed)
        model = package.load_model(str(made / f"model-{name}"))
        package.trace(model, prompts, options=options).save(made / f"run-{name}")
    package.trace(model, "Elsewhere", options=options).save(made / "run-other")
    lines = [json.dumps(record) for record in RECORDS]
    (made / "p.jsonl").write_text("\n".join(lines) + "\n")
    (made / "broken.jsonl").write_text("\n".join([*lines, '{"prmopt": "x"}']) + "\n")
    return made


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_two_runs_are_told_saved_and_told_again(elimtool: Command, tmp_path: Path):
    out = tmp_path / "out"
    done = elimtool("compare", "run-a", "run-b", "-o", out)
    assert done.code == 0 and f"wrote {out}: " in done.err
    for words in (
        "2 of 2 prompts compared",
        "Outcome changed",
        "Moved most",
        "'Paris'",
        "Means over prompts",
    ):
        assert words in done.out
    assert elimtool("compare", out).out == done.out
    assert elimtool("compare", "run-a", "run-b", "-o", out).code == 2
    assert elimtool("compare", "run-a", "run-b", "-o", out, "--overwrite", "-q").out == f"{out}\n"
    data = json.loads(elimtool("compare", "run-a", "run-b", "--json").out)
    assert data["comparison"]["kind"] == "runs" and len(data["tables"]["pairs"]) == 2


def test_a_run_and_itself_differ_in_nothing(elimtool: Command):
    done = elimtool("compare", "run-a", "run-a")
    assert done.code == 0 and "Nothing differs." in done.out and "nats" not in done.out


def test_two_runs_import_no_torch(folder: Path):
    code = (
        "import sys\nfrom elimtool.cli import app\n"
        "code = app.run(lambda: app.app(['compare', 'run-a', 'run-b', '-q'], standalone_mode=False))\n"
        "print(code, [name for name in ('torch', 'transformers') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.stderr.strip().endswith("0 []"), done.stderr


def test_two_models_over_a_file_one_of_whose_records_is_bad(elimtool: Command, tmp_path: Path):
    out = tmp_path / "out"
    done = elimtool("compare", "-m", "model-a", "-m", "model-b", "broken.jsonl", "--lens", "raw", "-o", out)
    assert done.code == 6 and "2 of 3 prompts compared" in done.out and "Different weights." in done.out
    found = open_comparison(out)
    pairs = found.table("pairs").set_index("pair_id")
    assert "broken.jsonl:3: unknown key 'prmopt'" in pairs.loc["<line 3>", "error_message"]
    assert found.kind == "models" and found.arrow("divergence").num_rows == 2 * 5


def test_one_model_drafts_for_the_other(elimtool: Command, tmp_path: Path):
    out = tmp_path / "out"
    given = (
        "compare",
        "-m",
        "model-a",
        "-m",
        "model-b",
        "--prompt",
        "Hi",
        "--samplers",
        "top_k=3",
        "--lens",
        "raw",
    )
    done = elimtool(*given, "--speculative", "--tokens", "2", "--draft-chain", "probabilistic", "-o", out)
    assert done.code == 0 and "tokens a pass of B when A drafts" in done.out, done
    assert "probabilistic draft of 2 tokens" in done.out and "top_k=3 removes" in done.out
    assert elimtool("compare", out).out in done.out + "\n"
    assert elimtool("report", out, "-o", tmp_path / "page.html").code == 0
    assert open_comparison(out).options["speculation"]["tokens"] == 2


def test_one_model_in_two_number_types(elimtool: Command):
    done = elimtool("compare", "-m", "model-a", "--dtype", "float32", "--dtype", "bfloat16", "--prompt", "Hi")
    assert done.code == 0 and "Different number types: float32 and bfloat16." in done.out


def test_a_model_and_itself_quantised(elimtool: Command):
    pytest.importorskip("bitsandbytes")
    done = elimtool(
        "compare", "-m", "model-a", "--quantize", "none", "--quantize", "8bit", "--prompt", "Hi", "--json"
    )
    assert done.code == 0, done.err
    data = json.loads(done.out)["comparison"]
    assert data["a"].get("quantization") is None and data["b"]["quantization"]["load_in_8bit"]
    assert (
        "The weights differ in precision: those of A are not quantised, those of B quantised"
        " (bitsandbytes, 8 bit)." in data["notes"]
    )


def test_runs_whose_weights_differ_in_precision_are_compared_and_said(elimtool: Command, tmp_path: Path):
    run = open_run("run-a")
    stored = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}
    manifest = run.manifest.model_copy(update={"quantization": stored})
    tables = {name: run.arrow(name) for name in run.tables}
    Run.from_tables(manifest, tables).save(tmp_path / "4bit")
    done = elimtool("compare", tmp_path / "4bit", "run-a")
    assert "quantised (bitsandbytes, 4 bit)" in done.out.splitlines()[0]
    words = " ".join(done.out.split())
    assert "those of A are quantised (bitsandbytes, 4 bit), those of B not quantised." in words


def test_the_environment_names_one_model_though_its_path_has_a_blank(
    elimtool: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "my model").symlink_to(folder / "model-a")
    monkeypatch.setenv("ELIMTOOL_MODEL", "my model")
    done = elimtool("compare", "--dtype", "float32", "--dtype", "bfloat16", "--prompt", "Hi")
    assert done.code == 0 and "Different number types: float32 and bfloat16." in done.out


def test_two_chains_of_a_run_and_of_a_model(elimtool: Command):
    samplers = ("--samplers", "llama.cpp", "--samplers", "hf")
    done = elimtool("compare", *samplers, "run-a")
    assert done.code == 0 and done.out.startswith("A: llama.cpp\nB: hf\n") and "total variation" in done.out
    again = elimtool("compare", *samplers, "-m", "model-a", "p.jsonl")
    assert again.code == 0
    tail = [line for line in done.out.splitlines() if "total variation distance: mean" in line]
    assert tail and tail[0] in again.out
    assert "Nothing differs" in elimtool("compare", "--samplers", "hf", "--samplers", "hf", "run-a").out


def test_what_cannot_be_compared_is_refused(elimtool: Command, tmp_path: Path):
    cases: dict[tuple[Any, ...], tuple[int, str]] = {
        ("run-a",): (2, "there is only one side to compare: run-a"),
        ("run-a", "run-b", "run-a"): (2, "a comparison has two sides"),
        ("--prompt", "Hi", *("--quantize", "none") * 3): (2, "--quantize may be given twice"),
        ("run-a", "run-b", "--quantize", "8bit"): (2, "--quantize does not go with two runs"),
        ("run-a", "model-b"): (2, "is not a run directory"),
        ("run-a", "none"): (2, "none does not exist"),
        ("none", "run-a"): (2, "none does not exist"),
        ("run-a", "p.jsonl"): (2, "p.jsonl is a file"),
        ("run-a", "run-other"): (5, "no prompt in common: 2 in A, 1 in B"),
        ("run-a", "run-b", "--position", "99"): (5, "measured in both runs at position 99"),
        ("run-a", "run-b", "--position", "all"): (
            2,
            "--position must be 'last' or an index from 0, got 'all'",
        ),
        ("run-a", "run-b", "-m", "model-a"): (2, "--model does not go with two runs"),
        ("run-a", "run-b", "-t", "Rome"): (2, "--target does not go with two runs"),
        ("run-a", "run-b", "--intervened"): (2, "neither run has interventions"),
        ("run-a", "--samplers", "hf", "--samplers", "vllm"): (2, "the run has no chain 'vllm'"),
        ("p.jsonl",): (2, "there is only one side to compare: p.jsonl"),
        ("--prompt", "A"): (2, "there is only one side to compare: one prompt"),
        ("--prompt", "A", "run-a"): (2, "--prompt and run-a were both given"),
        ("--json",): (2, "there is nothing to compare"),
        ("-m", "a", "-m", "b", "-m", "c", "p.jsonl"): (2, "-m may be given twice, got 3"),
        ("-m", "a", "-m", "b", "--prompt", "A", "--prompt", "B"): (2, "two prompts and two models"),
        ("-m", "a", "-m", "b", "none.jsonl"): (2, "cannot read none.jsonl"),
        ("-m", "a", "-m", "b", "p.jsonl", "--intervened"): (2, "--intervened goes with two runs"),
        ("-m", "a", "-m", "b", "p.jsonl", "--samplers", "lama"): (2, "lama"),
        ("-m", "a", "-m", "b", "p.jsonl", "--tokens", "3"): (2, "--tokens goes with --speculative"),
        ("-m", "a", "-m", "b", "p.jsonl", "--speculative", "--tokens", "0"): (2, "must be 1 or more, got 0"),
        ("-m", "a", "-m", "b", "p.jsonl", "--speculative", "--draft-chain", "lama"): (2, "lama"),
        ("--prompt", "A", "--prompt", "B", "--speculative"): (
            2,
            "--speculative does not go with two prompts",
        ),
        ("run-a", "run-b", "--speculative"): (2, "--speculative does not go with two runs"),
    }
    for arguments, (code, message) in cases.items():
        done = elimtool("compare", *arguments)
        assert (done.code, done.out) == (code, "") and message in done.err, (arguments, done)
        assert done.err.count("\n") <= 2, done.err


def test_a_damaged_and_a_newer_run_are_refused(elimtool: Command, folder: Path, tmp_path: Path):
    package.open_run("run-a").save(tmp_path / "newer")
    file = tmp_path / "newer" / "run.json"
    file.write_text(file.read_text().replace('"schema_version": 2', '"schema_version": 7'))
    done = elimtool("compare", "run-a", tmp_path / "newer")
    assert done.code == 4 and "schema version 7" in done.err


def test_other_commands_say_what_a_comparison_is(elimtool: Command, tmp_path: Path):
    out = tmp_path / "out"
    elimtool("compare", "run-a", "run-b", "-o", out)
    status = elimtool("run", "status", out)
    assert status.code == 0 and "comparison of two runs, finished" in status.out and "2 pairs" in status.out
    assert json.loads(elimtool("run", "status", out, "--json").out)["kind"] == "runs"
    report = elimtool("report", out, "-o", tmp_path / "r.html")
    assert report.code == 0 and report.err.startswith(f"wrote {tmp_path / 'r.html'}: 2 pairs, ")
    assert "is a comparison, not a run" in elimtool("compare", out, "run-a").err


def test_help_names_every_form(elimtool: Command):
    told = " ".join(elimtool("compare", "--help").out.split())
    for words in (
        "RUN_A RUN_B",
        "-m A -m B prompts.jsonl",
        "--samplers llama.cpp --samplers vllm RUN",
        "compare DIR",
    ):
        assert words in told
