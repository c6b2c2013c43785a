"""Texts below the command line: errors name parameters, as a user of the library knows them, and no flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import elimtool
from elimtool.cli.app import app
from elimtool.cli.naming import LIBRARY_NAMES

ROOT = Path(elimtool.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] != "cli")
NAMED = re.compile(r"(?<![`\w])`([A-Za-z_]+)(?:=[^`]+)?`(?!`)")
"""A parameter in single backquotes, with a value or without."""

NO_MESSAGES = {
    # pip's own options
    *("--no-deps", "--only-binary", "--no-input", "--disable-pip-version-check"),
    *("--retries", "--dest", "--progress-bar"),
    # what elimtool check prints, and a column's description
    ": write it with --update and review it",
    "not tested: no --confirm, no such component, or the pass is one under an intervention",
}


def texts(tree: ast.Module) -> Iterator[str]:
    """All strings of a module but docstrings; of an f-string, the literal parts."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.value


def messages(tree: ast.Module) -> Iterator[str]:
    """What the errors of a module are made of, as far as it stands where they are raised, f-strings whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith(("Error", "Full")):
            for argument in node.args:
                yield ast.unparse(argument)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_below_the_command_line_names_a_flag(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [one for one in texts(tree) if re.search(r"(?<![\w-])--[a-z]", one) and one not in NO_MESSAGES]
    assert found == []


def test_what_an_error_names_in_backquotes_is_a_parameter() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    known = {node.arg for node in nodes if isinstance(node, ast.arg)}
    known |= {
        node.target.id
        for node in nodes
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    named = {name for tree in trees for text in messages(tree) for name in NAMED.findall(text)}
    assert len(named) > 40 and named - known - options() == set()


def options() -> set[str]:
    """Names of the parameters of all commands."""
    found: set[str] = set()
    todo = [typer.main.get_command(app)]
    while todo:
        command = todo.pop()
        todo += getattr(command, "commands", {}).values()
        found |= {str(one.name) for one in command.params}
    return found


def test_every_other_name_of_a_parameter_is_of_an_option() -> None:
    assert {name + "_" * (name == "continue") for name in LIBRARY_NAMES.values()} <= options()
