"""The JSON of commands: each has a schema, the page has all of them, and other keys are a fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator

from elimtool.cli.app import app
from elimtool.cli.schemas.commands import JSON_VERSION, SHAPES, schema_of
from tests.cli.conftest import Command
from tests.cli.schemas import faults
from tests.report import runs

ROOT = Path(__file__).parents[2]


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_every_command_with_json_has_a_schema() -> None:
    found = {
        name
        for name, command in commands(typer.main.get_command(app))
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert found == set(SHAPES)


def test_every_command_has_json_or_writes_files_and_nothing_else() -> None:
    every = {name for name, _ in commands(typer.main.get_command(app))}
    assert every - set(SHAPES) == {"report", "mcp", "explore", "lens fit", "models pull", "run merge"}


@pytest.mark.parametrize("command", SHAPES)
def test_the_json_of_every_command_is_held_against_its_schema_in_some_test(command: str) -> None:
    """The fixture ``elimtool`` does that for each line with ``--json``."""
    words = ", ".join(f'"{word}"' for word in command.split())
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    assert any(words in text and '"--json"' in text and "elimtool(" in text for text in texts)


@pytest.mark.parametrize("command", SHAPES)
def test_schemas_are_valid_and_tell_what_every_key_means(command: str) -> None:
    schema = schema_of(command)
    Draft202012Validator.check_schema(schema)
    assert f"elimtool-json-{JSON_VERSION}/" in schema["$id"]
    assert [path for path, one in keys(schema) if not one.get("description") and "$ref" not in one] == []


def keys(schema: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of every object in a schema; columns that hold objects say themselves what is in them."""
    if isinstance(schema, list):
        for one in schema:
            yield from keys(one, at)
    elif isinstance(schema, dict):
        for name, one in schema.get("properties", {}).items():
            yield f"{at}.{name}", one
            if not at.startswith(".tables."):
                yield from keys(one, f"{at}.{name}")
        for key, one in schema.items():
            if key != "properties":
                yield from keys(one, at)


def test_what_is_not_as_described_is_found(elimtool: Command, tmp_path: Path) -> None:
    runs.france().save(tmp_path / "run")
    found = json.loads(elimtool("run", "status", tmp_path / "run", "--json").out)
    assert faults("run status", found) == []
    for change in ({"state": "done"}, {"prompts": None}, {"more": 1}):
        assert faults("run status", found | change)
    del found["model"]
    assert faults("run status", found)
    row = {"rows": [{"layer": 1}], "n_selected": 1, "n_rows": "1"}
    assert faults("run show", row) and not faults("run show", row | {"n_rows": 1})


def test_rows_of_tables_are_described_column_by_column() -> None:
    run = runs.france().to_dict()
    assert faults("trace", run) == []
    (table, rows), *_ = [(name, rows) for name, rows in run["tables"].items() if name == "lens" and rows]
    for change in ({"rank": None}, {"rank": "1"}, {"unknown": 1}):
        changed = run | {"tables": {table: [rows[0] | change]}}
        assert faults("trace", changed), change
    assert faults("trace", {"run": run["run"] | {"model": None}, "tables": {}})


def test_the_page_of_json_is_current() -> None:
    script = ROOT / "scripts" / "make_json_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
