"""The wheel: what is inside, and what a client's type checker and a bare interpreter make of it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLIENT = """
from typing import assert_type

import elimtool
from elimtool.model.model import Model
from elimtool.run.reader import Run

model = elimtool.load_model("smollm2")
assert_type(model, Model)
options = elimtool.TraceOptions(tables=("lens",))
prompt = elimtool.Prompt("The capital of France is", targets=("Paris",))
run = elimtool.trace(model, [prompt], options=options)
assert_type(run, Run)
assert_type(elimtool.open_run("capital-run"), Run)

# each is an error, since none of these is Any; an ignore without an error would be one too
elimtool.load_model(3)  # type: ignore[arg-type]
elimtool.Prompt(3)  # type: ignore[arg-type]
elimtool.TraceOptions(tables=3)  # type: ignore[arg-type]
elimtool.trace(model, 3)  # type: ignore[arg-type]
elimtool.open_run(3)  # type: ignore[arg-type]
elimtool.tracee  # type: ignore[attr-defined]
"""
SETTINGS = """
[mypy]
strict = true
# large, and not what is asked about
[mypy-torch.*,transformers.*,transformer_lens.*,pandas.*]
follow_imports = skip
"""
USE = """
from pathlib import Path
import elimtool
from elimtool.lenses.corpus import shipped
from elimtool.report.html.page import SCRIPTS
from elimtool.samplers.presets import PRESETS, preset_names

inside = Path(elimtool.__file__).parent
assert PRESETS.is_relative_to(inside) and "llama.cpp" in preset_names(), PRESETS
assert shipped("fit") and shipped("held_out")
assert all((inside / "report" / "html" / "assets" / name).is_file() for name in SCRIPTS)
print(elimtool.__version__)
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as the project's own backend makes it, in the environment as it is, without a network."""
    built = tmp_path_factory.mktemp("built")
    offline = ("--no-build-isolation", "--no-deps", "--no-index")
    run("pip", "wheel", *offline, "--quiet", "--wheel-dir", str(built), str(ROOT), folder=built)
    (wheel,) = built.glob("elimtool-*.whl")
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(module: str, *arguments: str, folder: Path, path: Path | None = None) -> str:
    """Run a module of the environment in a folder, with ``path`` before what is installed."""
    kept = {name: value for name, value in os.environ.items() if path is None or name != "PYTHONPATH"}
    environment = kept | ({} if path is None else {"PYTHONPATH": str(path)})
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_wheel_holds_what_is_read_at_run_time(unpacked: Path) -> None:
    inside = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    for folder in ("elimtool", "configs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                at = path.relative_to(ROOT)
                assert str(at if folder == "elimtool" else Path("elimtool") / at) in inside
    assert "elimtool/py.typed" in inside
    (unpacked / "use.py").write_text(USE, encoding="utf-8")
    version = run("use", folder=unpacked, path=unpacked).strip()
    assert (unpacked / f"elimtool-{version}.dist-info" / "METADATA").is_file()


@pytest.mark.slow
def test_type_checkers_see_the_types_of_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(CLIENT, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
    run("mypy", "--config-file", "mypy.ini", "client.py", folder=tmp_path, path=unpacked)
