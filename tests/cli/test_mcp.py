"""``elimtool mcp`` with the package's own client: in this process, and over standard input and output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import elimtool
from elimtool.cli.agent import MOST_CHARACTERS, Desk, bounded, server

mcp = pytest.importorskip("mcp")

Ask = Callable[..., tuple[bool, str]]


@pytest.fixture
def root(tmp_path: Path, llama: Any) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    elimtool.trace(llama, "The capital of Spain is", targets=["Paris"]).save(folder / "spain")
    (folder / "checks.yaml").write_text(
        "version: 1\nprompts:\n  - {id: one, prompt: The capital, targets: [Paris]}\n"
        "checks:\n  - {id: any, metric: final_rank, max: 300}\n  - {id: none, metric: final_rank, max: 1}\n"
    )
    (tmp_path / "secret.yaml").write_text("version: 1\n")
    return folder


@pytest.fixture
def ask(root: Path, llama: Any) -> Ask:
    """``ask(tool, **arguments)`` -> whether it is an error, and the text."""
    made = server(Desk(root, ("tiny",), ("hf",), {"tiny": llama}))

    def call(tool: str, **arguments: Any) -> tuple[bool, str]:
        async def inner() -> tuple[bool, str]:
            async with mcp.Client(made) as client:
                found = await client.call_tool(tool, arguments)
                return bool(found.is_error), "\n".join(one.text for one in found.content)

        return anyio.run(inner)

    return call


def test_the_tools_are_listed_with_what_they_take(root: Path) -> None:
    async def listed() -> Any:
        async with mcp.Client(server(Desk(root, ("tiny",), ("hf",)))) as client:
            return (await client.list_tools()).tools

    tools = {one.name: one for one in anyio.run(listed)}
    assert set(tools) == {"trace", "compare", "check", "query"}
    assert set(tools["trace"].input_schema["required"]) == {"prompt"}
    assert "what became of each target" in tools["trace"].description


def test_a_trace_is_told_kept_compared_and_queried(ask: Ask, root: Path) -> None:
    failed, told = ask("trace", prompt="The capital of France is", targets=["Paris"], keep="france")
    assert not failed and "The capital of France is" in told and "kept as france" in told
    assert elimtool.open_run(root / "france").manifest.chains[0]["name"] == "hf"
    failed, told = ask("compare", a="spain", b="france")
    assert failed and "no prompt in common" in told  # other prompts: their own ids
    failed, told = ask("compare", a="The capital of Spain is", b="The capital of France is", prompts=True)
    assert not failed and "Spain" in told
    failed, told = ask("query", sql="SELECT run, count(*) AS n FROM verdicts GROUP BY run ORDER BY run")
    assert not failed
    assert [json.loads(line)["run"] for line in told.splitlines()] == ["france", "spain"]
    assert json.loads(ask("query", sql="SELECT run FROM runs", runs=["spain"])[1]) == {"run": "spain"}


def test_a_check_file_is_judged_on_the_model_or_a_kept_run(ask: Ask) -> None:
    failed, told = ask("check", file="checks.yaml")
    assert not failed and "any" in told and "FAIL" in told and "1 failed" in told


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("trace", {"prompt": "x", "model": "org/other"}, "not offered here"),
        ("trace", {"prompt": "x" * 100_001}, "must have 1 to 100,000 characters"),
        ("trace", {"prompt": "x", "targets": ["a"] * 21}, "20 targets and foils at most"),
        ("trace", {"prompt": "x", "generate": 65}, "must be from 0 to 64"),
        ("trace", {"prompt": "x", "keep": "../out"}, "not a simple name"),
        ("trace", {"prompt": "x", "keep": "spain"}, "there is a run 'spain'"),
        ("trace", {"prompt": "x", "samplers": ["/etc/passwd"]}, "is a file"),
        ("compare", {"a": "spain", "b": "../../etc"}, "outside of the folder"),
        ("check", {"file": "../secret.yaml"}, "outside of the folder"),
        ("query", {"sql": "SELECT * FROM read_text('/etc/passwd')"}, "nothing else"),
        ("query", {"sql": "DROP VIEW runs"}, "one SELECT statement"),
        ("query", {"sql": "SELECT 1", "runs": ["/etc"]}, "outside of the folder"),
        ("query", {"sql": "SELECT 1", "limit": 100_000}, "from 1 to 200"),
    ],
)
def test_what_is_out_of_bounds_is_refused(ask: Ask, tool: str, arguments: dict[str, Any], says: str) -> None:
    failed, told = ask(tool, **arguments)
    assert failed and says in told


def test_answers_are_bounded() -> None:
    cut = bounded("x" * 50_000)
    assert len(cut) < MOST_CHARACTERS + 100 and "50,000 characters" in cut
    assert bounded("short") == "short"


@pytest.mark.slow
def test_over_standard_input_and_output(root: Path, llama_directory: Path) -> None:
    command = [sys.executable, "-m", "elimtool", "mcp", "--root", str(root), "-m", str(llama_directory)]
    asked = mcp.StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))

    async def inner() -> Any:
        async with mcp.Client(asked) as client:
            return await client.call_tool("trace", {"prompt": "The capital", "targets": ["Paris"]})

    found = anyio.run(inner)
    assert not found.is_error and "The capital" in found.content[0].text
