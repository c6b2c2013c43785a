"""Commands on populations as users type them: a suite is measured once, a run read, findings are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.run.test_analysis import files

SUITE = """
version: 1
name: tiny
defaults: {targets: [" e"], foils: [" a"]}
groups: {slot: who, one: [as, at, an], two: [is, it, in], pair: aligned}
templates: [{id: a, template: "the {who} of"}, {id: b, template: "to {who} and", neutral: "to the and"}]
"""
QUICK = ["--samplers", "hf", "--lens", "raw"]


@pytest.fixture
def suite(elimtool: Command, llama_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """After ``elimtool``, which takes the variable away."""
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))
    file = tmp_path / "tiny.yaml"
    file.write_text(SUITE)
    return file


def test_a_suite_is_measured_once_and_then_read(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = elimtool("audit", suite, "-o", out, "--json", *QUICK)
    assert first.code == 0, first.err
    kept = files(out / "analysis")
    assert json.loads(first.out)["analysis"]["command"] == "audit"
    again = elimtool("audit", suite, "-o", out, "--json", *QUICK)
    assert again.code == 0 and again.out == first.out
    read = elimtool("audit", out, "--json")
    assert read.out == first.out and files(out / "analysis") == kept
    assert elimtool("audit", out, "-q").out.strip() == str(out / "analysis" / "audit")
    shown = elimtool("run", "show", out, "audit_checks")
    assert shown.code == 0


def test_without_a_directory_nothing_is_kept(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    done = elimtool("audit", suite, *QUICK)
    assert done.code == 0 and "--out DIR" in done.err
    assert {one for one in tmp_path.rglob("*") if "cache" not in one.parts} - before == set()


def test_how_a_run_is_measured_cannot_be_asked_of_a_run(
    elimtool: Command, suite: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert elimtool("batch", suite, "-o", out, *QUICK).code == 0
    for option in (["-m", "smollm2"], ["-o", "other"], ["--samplers", "hf"], ["--ablate", "0.0"]):
        done = elimtool("audit", out, *option)
        assert done.code == 2 and "was measured already" in done.err
    done = elimtool("audit", out, "--intervened")
    assert done.code == 2 and "has no interventions" in done.err


def test_prompts_without_groups_are_nothing_to_audit(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    file = tmp_path / "plain.jsonl"
    file.write_text('{"prompt": "the"}\n')
    done = elimtool("audit", file, *QUICK)
    assert done.code == 5 and "no two groups" in done.err


def test_a_run_is_audited_without_torch(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert elimtool("batch", suite, "-o", out, *QUICK).code == 0
    code = f"""
import sys
from elimtool.cli import app
try:
    app.main(["audit", {str(out)!r}, "-q"])
except SystemExit as leaving:
    assert leaving.code == 0
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
