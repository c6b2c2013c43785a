"""Processes that elimtool starts take no code from the working directory, whatever lies there."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from elimtool.files.package import PACKAGE, child_environment, python_command
from tests.tasks.batch.conftest import write_prompts

HOSTILE = ("elimtool/__init__.py", "elimtool/__main__.py", "torch.py", "numpy.py", "pyarrow.py", "json.py")
HOSTILE += ("pip/__init__.py", "pip/__main__.py", "sqlite3.py", "runpy.py", "typer.py", "rich.py")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory full of modules that leave a file behind when they are run."""
    folder = tmp_path / "hostile"
    for name in HOSTILE:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"import os; os.close(os.open({str(tmp_path / 'ran')!r}, os.O_CREAT | os.O_WRONLY))\n"
        )
    monkeypatch.chdir(folder)
    return tmp_path / "ran"


@pytest.mark.parametrize("module", ["pip", "elimtool"])
def test_a_module_of_the_working_directory_is_not_run(module: str, hostile: Path) -> None:
    command = python_command(module, "--version")
    done = subprocess.run(command, env=child_environment(), check=True, capture_output=True, text=True)
    assert module in done.stdout
    assert not hostile.exists()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    assert hostile.exists()  # the test can fail


def test_a_batch_that_looks_ahead_runs_nothing_of_the_working_directory(
    hostile: Path, llama_directory: Path, tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 3)
    with prompts.open("a") as file:  # long enough to be read by a process of its own
        file.write(json.dumps({"prompt": "x", "id": "long", "meta": {"text": "y" * 2_000_000}}) + "\n")
    command = python_command(
        "elimtool", "batch", str(prompts), "-o", str(tmp_path / "run"), "--tables", "lens"
    )
    command += ["-m", str(llama_directory), "--samplers", "hf", "--lens", "raw"]
    environment = {**os.environ, "ELIMTOOL_CACHE": str(tmp_path / "cache")}
    environment.pop("PYTHONSAFEPATH", None)  # the batch must do without
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not hostile.exists()


def test_every_process_is_started_so() -> None:
    starters = {"Popen", "run", "call", "check_call", "check_output", "execv", "execvp", "system", "spawnv"}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            started = isinstance(node, ast.Call) and ast.unparse(node.func) in {
                f"{module}.{name}" for module in ("subprocess", "os") for name in starters
            }
            assert not started or "python_command(" in text, f"{path}:{node.lineno}"
