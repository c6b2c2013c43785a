"""The GitHub action and the pre-commit hook of the repository, run in a shell as their runners would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.report import runs

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
CHECKS = """\
version: 1
checks:
- {id: known, metric: entropy, min: 0}
- {id: never, metric: entropy, max: BOUND}
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository with two check files and a run to judge, and commands that stand for what is installed."""
    work, tools = tmp_path / "work", tmp_path / "tools"
    (work / "checks").mkdir(parents=True)
    tools.mkdir()
    for name, bound in (("good", "99"), ("bad", "-1")):
        (work / f"checks/{name}.yaml").write_text(CHECKS.replace("BOUND", bound))
    runs.france().save(work / "run")
    (tools / "elimtool").write_text(f'#!/bin/bash\nexec {shlex.quote(sys.executable)} -m elimtool "$@"\n')
    (tools / "python").write_text(f'#!/bin/bash\necho "$@" >> {shlex.quote(str(tmp_path / "python"))}\n')
    for one in tools.iterdir():
        one.chmod(0o755)
    return work


def steps(work: Path, **inputs: str) -> tuple[int, str, dict[str, str]]:
    """Run the steps that are commands: exit code, what was printed, and the step's outputs."""
    given = {name: one.get("default", "") for name, one in ACTION["inputs"].items()} | inputs
    files = {name: work.parent / name.lower() for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for one in files.values():
        one.touch()
    path = f"{work.parent / 'tools'}{os.pathsep}{os.environ['PATH']}"
    known = {"GITHUB_ACTIONS": "true", "PATH": path, "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **known, **{name: str(one) for name, one in files.items()}}
    code, said = 0, ""
    for step in ACTION["runs"]["steps"]:
        if "run" not in step or code:
            continue
        assert "${{" not in step["run"]  # an input in a script could run anything
        names = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], value)
            for name, value in step["env"].items()
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=work,
            env=environment | names,
            capture_output=True,
            text=True,
            check=False,
        )
        code, said = done.returncode, said + done.stdout + done.stderr
    written = (line.partition("=") for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return code, said, {name: value for name, _, value in written}


def test_a_regression_fails_the_action_and_every_file_is_judged(work: Path) -> None:
    code, said, outputs = steps(work, checks="checks/bad.yaml\nchecks/good.yaml\n", arguments="--run run")
    assert (code, outputs) == (10, {"exit-code": "10"})
    assert "::error" in said and "expected at most -1" in said
    summary = (work.parent / "github_step_summary").read_text()
    assert "never" in summary and summary.count("### elimtool check") == 2
    reports = sorted((work / "elimtool-junit").iterdir())
    assert [one.name for one in reports] == ["checks-bad.yaml.xml", "checks-good.yaml.xml"]
    failures = [len(ElementTree.parse(one).findall(".//failure")) for one in reports]
    assert failures[0] > 0 and failures[1] == 0
    assert (work.parent / "python").read_text() == "-m pip install elimtool\n"


def test_what_passes_passes_and_inputs_are_words_not_code(work: Path) -> None:
    code, said, outputs = steps(
        work, checks="checks/good.yaml", arguments="--run run", install="x; touch stolen", junit="out"
    )
    assert (code, outputs) == (0, {"exit-code": "0"}), said
    assert not list(work.rglob("stolen"))
    code, said, _ = steps(
        work, checks="checks/good.yaml; touch stolen", arguments="--run run $(touch stolen)"
    )
    assert code == 2 and not list(work.rglob("stolen")), said


def test_every_input_is_used() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    for name in ACTION["inputs"]:
        assert f"inputs.{name}" in text


def test_the_hook_runs_what_it_is_given(work: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert not hook["pass_filenames"]  # a check reads prompts that may have changed, too
    for name, code in (("good", 0), ("bad", 10)):
        done = subprocess.run(
            [*shlex.split(hook["entry"]), f"checks/{name}.yaml", "--run", "run"],
            cwd=work,
            env={
                **os.environ,
                "PATH": f"{work.parent / 'tools'}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
    assert re.search(hook["files"], "checks/a.yaml")
