"""Grammars on the command line: refused before a model is loaded, and measured in a batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from elimtool.run import open_run
from tests.cli.conftest import Command

pytest.importorskip("llguidance")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--json-schema", "{file}"), "error: {file}:2: #/items: Invalid type: strin\n"),
        (("--grammar", "{file}.gone"), "error: cannot read {file}.gone: No such file"),
        (("--regex", "a(b"), "error: regex 'a(b' is not valid at character 2: unclosed group\n"),
        (("--regex", "a", "--json-schema", "{file}"), "give one of --grammar, --json-schema and --regex"),
        (
            ("--tables", "grammar"),
            "error: table grammar needs a grammar\nhint: give --grammar, --json-schema or",
        ),
    ],
)
def test_what_is_not_valid_is_refused_before_a_model_is_loaded(
    elimtool: Command, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "array",\n "items": {"type": "strin"}}')
    given = [one.format(file=file) for one in flags]
    done = elimtool("trace", "x", "-m", tmp_path / "nowhere", *given)
    assert done.code == 2 and said.format(file=file) in done.err


def test_a_batch_keeps_what_the_grammar_removed(
    elimtool: Command, llama_directory: Path, tmp_path: Path
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "run"
    prompts.write_text("The capital of France is\nA token\n")
    asked = ("batch", prompts, "-m", llama_directory, "-o", out, "--tables", "grammar,walk_grammar,walk")
    done = elimtool(*asked, "--regex", "[a-c]{2}", "--samplers", "hf", "--generate", "5", "--quiet")
    assert done.code == 0, done.err
    run = open_run(out)
    texts = run.table("walk").groupby("prompt_id")["token"].agg("".join)
    assert texts.str.fullmatch("[a-c]{2}<.unknown.>").all() and len(texts) == 2
    rows = run.table("walk_grammar")
    assert rows["forced"].tolist() == [False, False, True] * 2
    assert rows["may_stop"].tolist() == [False, False, True] * 2
    assert run.manifest.config["grammar"]["regex"] == "[a-c]{2}"
