"""Parameters that messages name, written as the flags of the running command."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

import elimtool as package
from elimtool.cli.app import app
from elimtool.cli.naming import running, with_flags
from elimtool.errors import ElimError
from tests.cli.conftest import Command

ROOT = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (["trace"], "`target_space` must be exact", "--target-space must be exact"),
        (["trace"], "use `dtype='float32'`", "use --dtype float32"),
        (["trace"], "`position=3` (or `position`)", "--position 3 (or --position)"),
        (["trace"], "`confirm` needs `heads`", "--confirm needs --heads"),
        (["trace"], "`heads=False`, `heads=True`: `overwrite`", "--no-heads, --heads: --overwrite"),
        (["trace"], "choose another `directory` or `how`", "choose another --out or --ablate-with"),
        (["compare"], "`continue_` and `continuation` and `as_json`", "--continue and --continue and --json"),
        (["check"], "write it anew with `update='all'`", "write it anew with --update"),
        (["batch", "x.jsonl", "-o", "trace"], "`attempts` of `slice`", "--max-shard-attempts of `slice`"),
        (["lens", "fit", "trace"], "`window`, not `position`", "--window, not `position`"),
        # names that are no option here, an argument, none at all, and what is no name
        (["run", "status"], "`overwrite` and `directory`", "`overwrite` and `directory`"),
        ([], "`position`", "`position`"),
        (
            ["trace"],
            "`top_p.p` and ``seed`` and `hf auth login`",
            "`top_p.p` and ``seed`` and `hf auth login`",
        ),
        # what a user typed is in quotes, and stays
        (["trace"], "span 'a `seed` b' and `seed`", "span 'a `seed` b' and --seed"),
        (["trace"], """target "don't `seed`" and `seed`""", """target "don't `seed`" and --seed"""),
        (["trace"], "'it's `seed`' or the prompt's `seed`", "'it's `seed`' or the prompt's --seed"),
        (["trace"], "cannot read /tmp/`seed`/x", "cannot read /tmp/`seed`/x"),
    ],
)
def test_names_become_flags_of_the_command_that_ran(arguments: list[str], text: str, said: str) -> None:
    assert with_flags(text, running(ROOT, arguments)) == said


def test_the_library_and_the_command_line_say_it_in_their_own_words(
    elimtool: Command, tmp_path: Path
) -> None:
    with pytest.raises(ElimError) as raised:
        package.TraceOptions(confirm=True, heads=False)
    assert raised.value.message == "`confirm` needs `heads`"
    done = elimtool("trace", "a", "--confirm", "--no-heads")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: --confirm needs --heads")
    (tmp_path / "other").touch()
    done = elimtool("batch", "x.jsonl", "-o", tmp_path / "other", "--batch-size", "0")
    assert done.err == "error: --batch-size must be at least 1, got 0\n"


def test_text_of_the_user_is_no_flag(elimtool: Command) -> None:
    done = elimtool("trace", "a", "--chain", "`seed`")
    assert done.err.startswith("error: --chain must be one of --samplers, got '`seed`'\n")


def test_a_row_that_failed_names_the_parameter(
    elimtool: Command, llama_directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("The capital of France\n")
    given = ("--position", "50", "--tables", "survival", "--lens", "raw", "-o", tmp_path / "run")
    done = elimtool("batch", tmp_path / "prompts.txt", "-m", llama_directory, *given)
    assert done.code == 6
    stored = package.open_run(tmp_path / "run").prompts["error_message"][0]
    assert "prompts.txt:1: `position` 50 is outside the prompt" in stored
