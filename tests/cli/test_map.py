"""``elimtool map``: a model is mapped, the map is kept, read again, drawn and checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.tasks.map.conftest import write_corpus


@pytest.fixture
def line(llama_directory: Path, tmp_path: Path) -> tuple[str, ...]:
    corpus = write_corpus(tmp_path / "text.jsonl")
    return (
        "map",
        str(llama_directory),
        "-o",
        str(tmp_path / "map"),
        "--corpus",
        str(corpus),
        "--tokens",
        "64",
    )


def test_a_model_is_mapped_kept_and_read(elimtool: Command, line: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "map"
    done = elimtool(*line)
    assert done.code == 0 and "induction: none of 16 heads" in done.out, done.err
    assert "120 of 120 passages, " in done.err and "prompts" not in done.err
    assert elimtool("map", *line[1:], "--json").code == 0  # goes on, and finds nothing left to do
    again = json.loads(elimtool(*line, "--json").out)
    assert again["analysis"]["options"]["passages"] == 14
    shown = elimtool("run", "show", out, "head_roles", "--columns", "role,score", "--where", "layer=0")
    assert shown.code == 0 and "previous" in shown.out
    found = elimtool("query", "SELECT count(*) AS n FROM head_roles", out, "--json")
    assert json.loads(found.out) == [{"n": len(again["tables"]["head_roles"])}]
    checks = tmp_path / "checks.yaml"
    checks.write_text(
        "version: 1\nchecks: [{id: a, metric: head_roles.score, rows: {role: induction}, agg: max, max: 1}]\n"
    )
    assert elimtool("check", checks, "--run", out).code == 0
    page = elimtool("report", out, "-o", tmp_path / "page.html")
    assert page.code == 0 and "120 passages" in page.err and "prompt" not in page.err, page.err


def test_a_wrong_part_is_named(elimtool: Command, line: tuple[str, ...]) -> None:
    done = elimtool(*line, "--only", "roles,categorys")
    assert done.code == 2 and "--only: there is no part 'categorys'" in done.err
