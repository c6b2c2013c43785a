"""``elimtool check`` as a user types it: what it prints, what it writes, how it exits, how long it takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import elimtool as package
from elimtool.run import Run
from elimtool.run.schema import TABLES
from tests.cli.conftest import Command

CHECKS = """\
version: 1
baseline: base.json
checks:
  - {id: entropy, metric: entropy, max: 99}
  - {id: rank, prompt: fr, metric: final_rank, target: Paris, max: RANK, why: users ask for capitals}
  - {id: drift, metric: final_logprob, target: Paris, baseline: true}
"""


@pytest.fixture(scope="session")
def saved(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of two prompts."""
    prompts = [
        package.Prompt(text="The capital of France is", id="fr", targets=("Paris",)),
        package.Prompt(text="The capital of Germany is", id="de", targets=("Paris",)),
    ]
    options = package.TraceOptions(samplers=("llama.cpp",), lens="raw")
    directory = tmp_path_factory.mktemp("check") / "run"
    package.trace(llama, prompts, options=options).save(directory)
    return directory


@pytest.fixture
def checks(tmp_path: Path) -> Path:
    path = tmp_path / "checks.yaml"
    path.write_text(CHECKS.replace("RANK", "300"))
    return path


def test_baseline_made_then_passed_then_regressed(
    elimtool: Command, saved: Path, checks: Path, tmp_path: Path
) -> None:
    missing = elimtool("check", checks, "--run", saved)
    assert missing.code == 4 and "base.json: write it with" in " ".join(missing.out.split())
    made = elimtool("check", checks, "--run", saved, "--update")
    assert made.code == 0 and "+ drift / fr: -" in " ".join(made.out.split())
    good = elimtool("check", checks, "--run", saved)
    assert good.code == 0 and good.out.splitlines()[-1].startswith("3 checks: 3 passed (")
    checks.write_text(CHECKS.replace("RANK", "1"))
    bad = elimtool("check", checks, "--run", saved, "--junit", tmp_path / "out.xml")
    assert bad.code == 10 and bad.err == ""
    told = " ".join(bad.out.split())
    assert "users ask for capitals" in told and "expected at most 1" in told and "never surfaced" in told
    assert b"<failure" in (tmp_path / "out.xml").read_bytes()


def test_json_and_github(
    elimtool: Command, saved: Path, checks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    checks.write_text(CHECKS.replace("RANK", "1"))
    done = elimtool(
        "check", checks, "--run", saved, "--only", "rank", "--json", "--baseline", tmp_path / "no"
    )
    found = json.loads(done.out)
    assert done.code == found["exit_code"] == 10
    assert found["checks"][0]["findings"][0]["prompt"] == "fr"
    assert done.err.startswith(f"::error file={checks},line=5,title=rank::")
    assert "elimtool check" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Usage"),
        (("--json",), 2, "give a check file"),
        (("none.yaml",), 2, "cannot read none.yaml"),
        (("FILE", "--run", "none"), 2, "does not exist"),
        (("FILE", "--run", "RUN", "--update", "--update-new"), 2, "leave one of the two out"),
        (("FILE", "--run", "RUN", "--only", "entropi"), 5, "did you mean 'entropy'?"),
        (("FILE", "--run", "RUN"), 4, ""),
        (("FILE", "--rnu", "RUN"), 2, "--rnu"),
        (("FILE", "--run", "RUN", "--junit", "/proc/none/x.xml", "--only", "entropy"), 2, "cannot write"),
    ],
)
def test_exit_codes_and_what_is_said(
    elimtool: Command, saved: Path, checks: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    named = {"FILE": str(checks), "RUN": str(saved)}
    done = elimtool("check", *(named.get(one, one) for one in arguments))
    assert done.code == code
    assert said in done.out + done.err


def test_a_run_and_a_model_contradict_but_for_the_environment(
    elimtool: Command, saved: Path, checks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = elimtool("check", checks, "--run", saved, "-m", "smollm2")
    assert done.code == 2 and "--run and --model were both given" in done.err
    monkeypatch.setenv("ELIMTOOL_MODEL", "smollm2")
    assert elimtool("check", checks, "--run", saved, "--only", "entropy", "--update").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run", "RUN", "--batch-size", "2"), "--run and --batch-size were both given"),
        (("--noise", "--threads", "2"), "--noise and --threads were both given"),
        (("--noise", "--junit", "x.xml"), "--noise and --junit were both given"),
        (("--run", "RUN", "--explain", "rank", "--json"), "--explain and --json were both given"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    elimtool: Command, saved: Path, checks: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = elimtool("check", checks, *(str(saved) if one == "RUN" else one for one in arguments))
    assert done.code == 2 and said in done.err and done.out == ""


def test_prompts_that_could_not_be_measured_are_6(elimtool: Command, llama: Any, tmp_path: Path) -> None:
    prompts = [
        package.Prompt(text="The capital of France is", id="fr"),
        package.Prompt("word " * 900, id="long"),
    ]
    options = package.TraceOptions(samplers=("llama.cpp",), lens="raw", errors="row")
    package.trace(llama, prompts, options=options).save(tmp_path / "run")
    checks = tmp_path / "checks.yaml"
    checks.write_text("version: 1\nchecks:\n  - {id: entropy, metric: entropy, max: 99}\n")
    done = elimtool("check", checks, "--run", tmp_path / "run")
    assert done.code == 6
    assert "prompt 'long' could not be measured" in done.out and "1 of 2" in done.out
    checks.write_text("version: 1\nchecks:\n  - {id: entropy, metric: entropy, max: 0}\n")
    assert elimtool("check", checks, "--run", tmp_path / "run").code == 10


def test_explain_tells_the_whole_story(elimtool: Command, saved: Path, checks: Path) -> None:
    done = elimtool("check", checks, "--run", saved, "--only", "rank", "--update", "--explain", "rank")
    assert done.code == 0
    assert "The capital of France is" in done.out and "The capital of Germany is" not in done.out
    assert "Rank by layer" in done.out


def test_quiet_says_nothing_of_a_pass(elimtool: Command, saved: Path, checks: Path) -> None:
    elimtool("check", checks, "--run", saved, "--update")
    assert elimtool("check", checks, "--run", saved, "-q").out == ""


def test_schema(elimtool: Command) -> None:
    schema = json.loads(elimtool("check", "--schema").out)
    assert schema["title"] == "elimtool check file"


def test_help_names_every_option(elimtool: Command) -> None:
    out = elimtool("check", "--help").out
    for option in [
        "run",
        "only",
        "baseline",
        "update",
        "update-new",
        "strict",
        "junit",
        "schema",
        "json",
        "quiet",
        "config",
    ]:
        assert f"--{option}" in out


def _filler(name: str, kind: pa.DataType, index: np.ndarray, ids: np.ndarray, layers: int) -> Any:
    special: dict[str, Any] = {
        "prompt_id": ids[index],
        "layer": np.tile(np.arange(-1, layers - 1), len(index) // layers + 1)[: len(index)],
        "status": ["ok"] * len(index),
        "target": [" Paris"] * len(index),
        "span": ["system"] * len(index),
        "chain": ["hf"] * len(index),
        "stage": ["top_k"] * len(index),
        "params": ["{}"] * len(index),
        "is_foil": [False] * len(index),
        "intervention": [None] * len(index),
    }
    if name in special:
        return pa.array(special[name], type=kind)
    if pa.types.is_list(kind) or pa.types.is_struct(kind):
        return pa.array([[]] * len(index), type=kind)
    if pa.types.is_string(kind):
        return pa.array(["text"] * len(index), type=kind)
    if pa.types.is_boolean(kind):
        return pa.array([True] * len(index), type=kind)
    return pa.array(np.full(len(index), 1), type=kind)


def large_run(manifest: Any, prompts: int = 1000, layers: int = 31) -> Run:
    """A run of many prompts with the rows that a model of 30 layers gives, all values alike."""
    ids = np.array([f"p{number:04}" for number in range(prompts)], dtype=object)
    rows = {"prompts": 1, "survival": 1, "verdicts": 1, "sampling": 12, "sampling_targets": 12}
    tables = {}
    for name in (
        "prompts",
        "attention",
        "lens",
        "lens_layers",
        "survival",
        "verdicts",
        "sampling",
        "sampling_targets",
    ):
        index = np.repeat(np.arange(prompts), rows.get(name, layers * (6 if name == "attention" else 1)))
        columns = {
            column.name: _filler(column.name, column.type, index, ids, layers)
            for column in TABLES[name].columns
        }
        tables[name] = pa.table(columns, schema=TABLES[name].schema)
    return Run.from_tables(manifest, tables)


def test_a_thousand_prompts_in_two_seconds_without_torch(saved: Path, tmp_path: Path) -> None:
    large_run(package.open_run(saved).manifest).save(tmp_path / "large")
    checks = tmp_path / "checks.yaml"
    checks.write_text(
        "version: 1\nbaseline: base.json\nchecks:\n"
        "  - {id: rank, metric: final_rank, target: Paris, max: 1}\n"
        "  - {id: alive, metric: survives, chain: hf}\n"
        "  - {id: kept, metric: retention, span: system, layers: 10-20, agg: mean, min: 0.05}\n"
        "  - {id: drift, metric: final_logprob, baseline: true}\n"
        "  - {id: entropy, metric: entropy, scope: all, agg: p95, max: 5}\n"
        "  - {id: out, metric: outcome, is: text}\n"
    )
    code = (
        "import sys, time\nstart = 0.0\n"
        "from elimtool.cli.app import app, run\n"
        "code = run(lambda: app(sys.argv[1:]))\n"
        "print('HEAVY', [one for one in ('torch', 'transformers') if one in sys.modules], code,"
        " time.process_time() - start)"
    )
    arguments = ["check", str(checks), "--run", str(tmp_path / "large")]

    def timed(*more: str) -> tuple[str, float]:
        environment = {**os.environ, "ELIMTOOL_CACHE": str(tmp_path)}
        found = subprocess.run(
            [sys.executable, "-c", code, *arguments, *more],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        said, seconds = found.stdout.splitlines()[-1].rsplit(" ", 1)
        return said, float(seconds)

    assert timed("--update")[0] == "HEAVY [] 0"
    imports = "import time, pyarrow.parquet, pyarrow.compute, yaml, typer, rich; print(time.process_time())"
    least = float("inf")
    for _ in range(6):  # others may share its caches and cores, which bare imports show
        said, seconds = timed()
        assert said == "HEAVY [] 0"
        bare = float(subprocess.check_output([sys.executable, "-c", imports]))
        if (least := min(least, seconds / max(2.0, 6 * bare))) < 1:
            break
    assert least < 1


def _installed(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "elimtool", *arguments], stderr=subprocess.PIPE, **options)


def test_the_installed_entry_point(saved: Path, checks: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "ELIMTOOL_CACHE": str(tmp_path)}
    for code, arguments in (
        (4, ()),
        (0, ("--update",)),
        (0, ()),
        (5, ("--only", "none")),
        (2, ("--against", "nowhere")),
    ):
        process = _installed(
            "check", str(checks), "--run", str(saved), *arguments, stdout=subprocess.PIPE, env=environment
        )
        process.communicate(timeout=60)
        assert process.returncode == code


@pytest.mark.parametrize(("raised", "code"), [("ZeroDivisionError", 70), ("KeyboardInterrupt", 130)])
def test_a_defect_and_an_interrupt_through_the_installed_entry_point(
    raised: str, code: int, saved: Path, checks: Path, tmp_path: Path
) -> None:
    """Python imports ``sitecustomize`` before the command: here it breaks what the command calls."""
    (tmp_path / "sitecustomize.py").write_text(
        "import elimtool.tasks.check.api as api\n"
        f"def broken(*_, **__): raise {raised}('not the user')\n"
        "api.judge_run = broken\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "ELIMTOOL_CACHE": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{root}"}
    process = _installed("check", str(checks), "--run", str(saved), stdout=subprocess.PIPE, env=environment)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, b"")
    assert b"Traceback" not in err


def test_a_reader_that_goes_away(saved: Path, checks: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    junit = tmp_path / "out.xml"
    process = _installed("check", str(checks), "--run", str(saved), "--junit", str(junit), stdout=writer)
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 141
    assert b"Traceback" not in err and b"Exception ignored" not in err
    assert junit.exists()


def test_a_defect_is_70(
    elimtool: Command, saved: Path, checks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("not the user's fault")

    monkeypatch.setattr("elimtool.tasks.check.api.judge_run", broken)
    done = elimtool("check", checks, "--run", saved)
    assert done.code == 70 and done.err.count("\n") == 1 and done.out == ""


def test_an_interrupt_is_130(
    elimtool: Command, saved: Path, checks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("elimtool.tasks.check.api.judge_run", stopped)
    done = elimtool("check", checks, "--run", saved)
    assert done.code == 130 and "interrupted" in done.err


@pytest.mark.parametrize("stated", [True, False])
def test_the_models_own_settings_are_laid_over_as_the_flag_says_then_as_the_file(
    elimtool: Command, llama_directory: Path, tmp_path: Path, stated: bool
) -> None:
    shutil.copytree(llama_directory, model := tmp_path / "model")
    (model / "generation_config.json").write_text(json.dumps({"do_sample": True, "top_k": 7}))
    path = tmp_path / "checks.yaml"
    path.write_text(
        f"version: 1\nmodel: {model}\nmodel_sampling: {str(stated).lower()}\nsamplers: [hf]\nprompts:\n"
        "  - {id: a, prompt: Hello}\nchecks:\n  - {id: mass, metric: pruned_mass, max: 1}\n"
    )
    for number, (flags, own) in enumerate(
        (([], stated), (["--no-model-sampling"], False), (["--model-sampling"], True))
    ):
        out = tmp_path / str(number)
        found = elimtool("check", path, *flags, "-o", out)
        assert found.code == 0, found.err
        (chain,) = package.open_run(out).manifest.chains
        assert ("origins" in chain) == own
    refused = elimtool("check", path, "--run", tmp_path / "0", "--no-model-sampling")
    assert refused.code == 2 and "--run and --model-sampling were both given" in refused.err


def test_results_are_kept_and_queried_over_runs(
    elimtool: Command, saved: Path, checks: Path, tmp_path: Path
) -> None:
    pytest.importorskip("duckdb")
    elimtool("check", checks, "--run", saved, "--update")
    kept = tmp_path / "kept"
    for label in ("1", "2"):
        assert elimtool("check", checks, "--run", saved, "--keep", kept, "--label", label).code == 0
    checks.write_text(CHECKS.replace("RANK", "1"))
    assert elimtool("check", checks, "--run", saved, "--keep", kept, "--label", "3").code == 10
    assert len(list(kept.iterdir())) == 3
    sql = "SELECT label, check_id, status, n_passed, n_prompts, value, off, message FROM checks ORDER BY ALL"
    rows = json.loads(elimtool("query", sql, kept, "--json").out)
    assert [(row["label"], row["check_id"]) for row in rows] == [
        (label, check) for label in "123" for check in ("drift", "entropy", "rank")
    ]
    failed = [row for row in rows if row["status"] == "failed"]
    (bad,) = failed
    run = package.open_run(saved)
    lens = run.table("lens")
    rank = lens[
        (lens["layer"] == run.n_layers - 1) & (lens["prompt_id"] == "fr") & (lens["target"] == "Paris")
    ]
    assert (bad["label"], bad["check_id"], bad["n_prompts"], bad["n_passed"]) == ("3", "rank", 1, 0)
    assert bad["value"] == rank["rank"].item() and bad["off"] == bad["value"] - 1 and bad["message"]
