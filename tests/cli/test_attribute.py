"""``elimtool attribute`` through the real entry point: story, directory, JSON, page, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Command

PROMPT = "The capital of France is Paris. The token is a text. No layer keeps it. The capital of Spain is"


def test_help_names_methods_and_defaults(elimtool: Command) -> None:
    done = elimtool("attribute", "--help")
    assert done.code == 0
    said = " ".join(done.out.replace("│", " ").split())
    for part in (
        "leave-one-out-masked",
        "integrated-gradients",
        "--units",
        "--ablations",
        "most probable token",
    ):
        assert part in said


def test_a_story_a_directory_and_its_page(elimtool: Command, llama_directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--method", "all", "--units", "sentences", "--ablations", "16", "--steps", "24")
    done = elimtool("attribute", PROMPT, "-t", "Madrid", "-m", llama_directory, *options, "-o", out)
    assert done.code == 0, done.err
    for part in (
        "Which part of the prompt did it: 'Madrid'",
        "note: attention sinks stay in place: 0 'The'",
        "S2: The token is a text.",
        "knockout by layers",
        "completeness error",
        "fidelity",
        "methods",
    ):
        assert part in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    page = tmp_path / "page.html"
    assert elimtool("report", out, "-o", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert "Which part of the prompt did it" in text and "What the methods cost" in text
    assert "lens None" not in text
    picture = tmp_path / "figure.svg"
    assert elimtool("report", out, "--figure", "attribution", "-o", picture).code == 0
    assert picture.stat().st_size > 1000


def test_json_and_a_file_of_prompts(elimtool: Command, llama_directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    records = [
        {"id": "one", "prompt": PROMPT, "targets": ["Madrid"], "spans": {"fact": "France is Paris"}},
        {"id": "two", "prompt": "The token of the text"},
        {"id": "long", "prompt": "a token of the text " * 40},
    ]
    file.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    done = elimtool(
        "attribute", "--prompts", file, "-m", llama_directory, "--method", "leave-one-out", "--json"
    )
    assert done.code == 6, done.err
    tables = json.loads(done.out)["tables"]
    assert [row["status"] for row in tables["prompts"]] == ["ok", "ok", "error"]
    assert {row["span"] for row in tables["attributions"] if row["prompt_id"] == "one"} == {"fact"}
    assert {row["method"] for row in tables["attributions"]} == {"leave-one-out"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "shapley"), "--method 'shapley' is not known"),
        (("--units", "words"), "--units 'words' is not valid"),
        (("--position", "all"), "--position must be 'last', an index from 0 or written:0, got 'all'"),
        (("--span", "France"), "--span must be NAME=TEXT, got 'France'"),
        (("--prompts", "x.jsonl"), "PROMPT and --prompts cannot be combined"),
        (("--ablations", "2"), "--ablations must be at least 16, got 2"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(
    elimtool: Command, arguments: tuple[str, ...], said: str
) -> None:
    done = elimtool("attribute", PROMPT, "-m", "no/such-model", *arguments)
    assert done.code == 2
    assert said in done.err
