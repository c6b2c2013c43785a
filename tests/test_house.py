"""How the house is built: its rooms, who imports whom, what linter and type checker cover, how it is told."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grimp
import pytest
import torch
from jaxtyping import TypeCheckError, jaxtyped

import elimtool
from elimtool.numerics.ranking import rank
from tests import checker

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "elimtool"
ROOMS = {
    "analysis",
    "cli",
    "engine",
    "files",
    "lenses",
    "metrics",
    "model",
    "numerics",
    "prompts",
    "report",
    "run",
    "samplers",
    "suites",
    "tasks",
}
UPWARDS = ("elimtool.run.notebook", "elimtool.report.html.notebook")
"""The one import that goes up: a notebook asks a run how to show it."""
OLD_FORM = re.compile(r"^[^.]*\bin, .*\bout\b[.:]?")
"""``X in, Y out``: a first line that says what goes in and comes out, not what the thing is for."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import, late ones too, but those for type checkers alone."""
    return grimp.build_graph(
        "elimtool", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def test_entries_of_the_package() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    assert entries == ROOMS | {"errors.py", "testing.py", "version.py", "py.typed"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_says_what_it_is_for_in_one_sentence(room: str) -> None:
    first = " ".join((import_module(f"elimtool.{room}").__doc__ or "").split("\n\n")[0].split())
    assert re.fullmatch(r"[^.]{20,}\.", first), first


def test_rooms_within_rooms_say_what_they_are_for() -> None:
    assert [str(path) for path in PACKAGE.rglob("__init__.py") if not ast.get_docstring(parsed(path))] == []


def test_no_imports_in_circles(graph: grimp.ImportGraph) -> None:
    imports = {
        module: {other for other in graph.find_modules_directly_imported_by(module) if other in graph.modules}
        for module in graph.modules
    }
    assert UPWARDS[1] in imports[UPWARDS[0]]
    with pytest.raises(CycleError):
        TopologicalSorter(imports).prepare()
    imports[UPWARDS[0]].remove(UPWARDS[1])
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_rooms_do_not_import_the_package_itself() -> None:
    whole = grimp.build_graph("elimtool", cache_dir=None)
    assert whole.find_modules_that_directly_import("elimtool") == set()


def test_the_linter_ignores_the_notebook_alone(project: dict[str, Any]) -> None:
    contracts = project["tool"]["importlinter"]["contracts"]
    ignored = [line for contract in contracts for line in contract.get("ignore_imports", [])]
    assert ignored == [" -> ".join(UPWARDS)]


def test_the_linter_knows_every_room(project: dict[str, Any]) -> None:
    layers, models, light = project["tool"]["importlinter"]["contracts"]
    inside = {room for layer in layers["layers"] for room in layer.split(" | ")}
    assert layers["exhaustive"] and inside == ROOMS | {"errors", "testing", "version"}
    assert set(models["source_modules"]) == {f"elimtool.{room}" for room in inside - {"model"}}
    files = {name for name, _ in modules() if name.startswith("elimtool.files.")}
    rooms = {
        f"elimtool.{room}" for room in ("analysis", "errors", "prompts", "report", "run", "suites", "version")
    }
    assert set(light["source_modules"]) == rooms | files - {"elimtool.files.tensors"}


def test_tensors_are_checked_in_every_module_that_has_them(
    graph: grimp.ImportGraph, project: dict[str, Any]
) -> None:
    (option,) = (o for o in project["tool"]["pytest"]["ini_options"]["addopts"] if "jaxtyping" in o)
    covered = option.partition("=")[2].split(",")[:-1]  # the last is the checker itself
    assert [name for name in covered if find_spec(name) is None] == []
    compiled = "elimtool.numerics.kernels"  # numba compiles it, and no checker sees into that
    sent = "elimtool.tasks.batch.member"  # Ray pickles its actors, which it cannot with a checker around them
    tensors = graph.find_modules_that_directly_import("torch")
    tensors |= graph.find_modules_that_directly_import("jaxtyping")
    assert [
        name
        for name in sorted(tensors)
        if not any(f"{name}.".startswith(f"{package}.") for package in (*covered, compiled, sent))
    ] == []


def test_a_tensor_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        rank(torch.zeros(5), torch.zeros(2, 3, dtype=torch.long))


def test_a_function_in_a_function_is_checked_each_time_it_is_made() -> None:
    def make(text: bool) -> Any:
        if text:

            @jaxtyped(typechecker=checker)
            def inner(x: str) -> str:
                return x

        else:

            @jaxtyped(typechecker=checker)
            def inner(x: int) -> int:
                return x

        return inner

    for text, sound, wrong in ((False, 1, "a"), (True, "a", 1)) * 2:
        assert make(text)(sound) == sound
        with pytest.raises(TypeCheckError):
            make(text)(wrong)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def docstrings(path: Path) -> Iterator[str]:
    """The first paragraph of every docstring of a file, on one line."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def test_docstrings_say_what_things_are_for() -> None:
    assert OLD_FORM.match("Two prompts as tokens in, which token of one is which of the other out.")
    files = [path for folder in ("elimtool", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {str(path.relative_to(ROOT)): list(filter(OLD_FORM.match, docstrings(path))) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_public_names_are_those_that_type_checkers_see() -> None:
    (seen,) = (node for node in parsed(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    declared = {
        name.asname: (statement.module, name.name)
        for statement in seen.body
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    }
    assert declared.keys() == set(elimtool.__all__)
    for public, (module, name) in declared.items():
        assert public == name
        found, home = getattr(elimtool, public), getattr(import_module(module), name)
        assert found is home or found.__wrapped__ is home  # functions check their arguments' types
        assert elimtool._HOMES[public] == module


def test_counts_in_sentences_have_a_separator_of_thousands() -> None:
    bare = [
        f"{name}: {ast.unparse(value)}"
        for name, path in modules()
        for value in bare_counts(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not bare, "write {len(...):,}"


def bare_counts(tree: ast.Module) -> Iterator[ast.FormattedValue]:
    """Find lengths that stand as a word in a sentence without a format, and ranks without one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        texts = [part.value if isinstance(part, ast.Constant) else " " for part in node.values]
        for part, before, after in zip(node.values, [" ", *texts], [*texts[1:], " "], strict=False):
            if isinstance(part, ast.FormattedValue) and part.format_spec is None and part.conversion == -1:
                word = before[-1] in " (\n" and after[0] in " ),;.:-"
                counted = ast.unparse(part.value).endswith(".rank") and before.endswith("rank ")
                if counted or (word and is_length(part.value)):
                    yield part


def is_length(value: ast.expr) -> bool:
    """Return whether a value is a length, or one less or more by something."""
    if isinstance(value, ast.BinOp):
        return is_length(value.left)
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "len"
