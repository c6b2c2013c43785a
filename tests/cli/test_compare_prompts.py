"""``elimtool compare`` of two prompts, through the real entry point, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elimtool.run.comparison import open_comparison

from .conftest import Command

A, B = "The capital of France is", "The old capital of France is"


def test_the_story_of_a_pair(elimtool: Command, llama_directory: Path) -> None:
    done = elimtool(
        "compare", "--prompt", A, "--prompt", B, "-m", llama_directory, "--lens", "raw", "-t", "Paris"
    )
    assert done.code == 0
    assert "[The capital]" in done.out or "[ old]" in done.out or "[old]" in done.out
    for told in (
        "Output",
        "How far apart, by layer",
        "95% of controls",
        "Targets",
        "Attention that moved most",
    ):
        assert told in done.out
    assert max(map(len, done.out.splitlines())) <= 100


def test_an_injection_that_does_nothing_is_called_none(elimtool: Command, llama_directory: Path) -> None:
    given = ("-m", llama_directory, "--lens", "raw", "--controls", "0", "--system", "keep the text")
    done = elimtool("compare", "--prompt", "A", "--prompt", "A b", "--injection", *given, "--json")
    pair, heads = (json.loads(done.out)["tables"][name] for name in ("pairs", "head_differences"))
    assert {row["span"] for row in heads} == {"system", "user", "injected"}
    told = elimtool("compare", "--prompt", "A", "--prompt", "A b", "--injection", *given).out
    assert "Heads that read the system span" in told and "Injection" in told
    assert ("No injection happened" in told) == (not pair[0]["output_changed"])
    same = elimtool("compare", "--prompt", A, "--prompt", A, *given)
    assert same.code == 0 and "Nothing differs: the prompts are the same." in same.out


def test_two_files_are_joined_by_id(elimtool: Command, llama_directory: Path, tmp_path: Path) -> None:
    left, right = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    left.write_text(
        '{"id": "1", "prompt": "The text"}\n{"id": "2", "prompt": "A"}\n{"id": "3", "prompt": "x"}\n'
    )
    right.write_text(
        '{"id": "2", "prompt": "A token"}\n{"id": "1", "prompt": ""}\n{"id": "4", "prompt": "x"}\n'
    )
    given = ("-m", llama_directory, "--lens", "raw", "--controls", "2", "-o", tmp_path / "out", "-q")
    done = elimtool("compare", left, right, *given)
    assert (done.code, done.out.strip()) == (6, str(tmp_path / "out"))
    found = open_comparison(tmp_path / "out")
    pairs = found.table("pairs").set_index("pair_id")
    assert pairs.loc[["2", "1"], "status"].tolist() == ["ok", "error"]
    assert (
        pairs.loc["1", "error_message"].startswith("B: ") and "b.jsonl:2" in pairs.loc["1", "error_message"]
    )
    assert found.manifest.unpaired == {"a": 1, "b": 1} and len(pairs) == 4
    assert str(left) in elimtool("compare", tmp_path / "out").out
    right.write_text('{"id": "9", "prompt": "x"}\n')
    assert elimtool("compare", left, right, *given[:4]).code == 5
    right.write_text('{"prompt": "x"}\n')
    none = elimtool("compare", left, right, *given[:4])
    assert none.code == 2 and "b.jsonl:1: the record has no id" in none.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--prompt", A, "--prompt", B, "--prompt", A), "--prompt may be given twice, got 3"),
        (("--prompt", "", "--prompt", B), "the prompt is empty"),
        (("--prompt", A, "--prompt", B, "--controls", "-1"), "--controls must be 0 or more, got -1"),
        (("--prompt", A, "--prompt", B, "--span", "x"), "--span must be NAME=TEXT, got 'x'"),
        (("--prompt", A, "-m", "a", "-m", "b", "--chat"), "--chat does not go with two models"),
    ],
)
def test_what_is_wrong_is_found_before_a_model_is_loaded(
    elimtool: Command, given: tuple[str, ...], said: str
) -> None:
    done = elimtool("compare", *given)
    assert done.code == 2 and said in done.err


def test_a_span_that_neither_prompt_has(elimtool: Command, llama_directory: Path) -> None:
    given = ("-m", llama_directory, "--lens", "raw", "--span", "x=Germany")
    done = elimtool("compare", "--prompt", A, "--prompt", B, *given)
    assert done.code == 2 and "span 'x': its text is in neither prompt" in done.err
