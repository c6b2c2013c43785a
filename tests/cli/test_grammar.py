"""Grammars on the command line: refused before a model is loaded, and measured in a batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elimtool.report.figures.grammar import grammars
from elimtool.report.screen import Screen
from elimtool.report.trace.grammar import grammar_lines
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


def test_a_trace_prints_tables_story_and_page_of_a_grammar(
    elimtool: Command, llama_directory: Path, tmp_path: Path
) -> None:
    asked = (
        "trace",
        "The capital of France is",
        "-m",
        llama_directory,
        "-t",
        "ab",
        "--target-space",
        "exact",
    )
    names = "grammar,grammar_targets,walk_grammar,walk"
    chosen = ("--regex", "[a-c]{2}", "--samplers", "hf", "--generate", "5", "--tables", names)
    tables = json.loads(elimtool(*asked, *chosen, "--json").out)["tables"]
    (place,), (target,) = tables["grammar"], tables["grammar_targets"]
    assert place["engine"].startswith("llguidance ") and place["may_stop"] is False and not place["forced"]
    assert 0.9 < place["mass_removed"] < 1 and place["distortion"] > 0
    assert (target["n_valid"], target["complete"], target["refused"]) == (target["n_tokens"], True, None)
    steps = tables["walk_grammar"]
    assert [row["forced"] for row in steps] == [False, False, True]
    assert steps[-1]["distortion_so_far"] == pytest.approx(sum(row["distortion"] for row in steps))
    done = elimtool(*asked, *chosen, "-o", tmp_path / "run")
    told = " ".join(done.out.split())
    assert "Grammar (removed:" in told and "1 of 3 tokens forced" in told
    assert "'ab' in the grammar of hf: accepted, a whole text" in told
    page = tmp_path / "page.html"
    assert elimtool("report", tmp_path / "run", "-o", page).code == 0
    assert "What the grammar removed and forced" in page.read_text()
    checks = tmp_path / "checks.yaml"
    checks.write_text(
        "version: 1\nchecks:\n"
        "  - {id: removed, metric: grammar_mass, max: 0.5}\n"
        "  - {id: accepted, metric: grammar_accepts, target: ab, min: 1}\n"
        "  - {id: forced, metric: walk_grammar.forced, agg: share, min: 0.3}\n"
    )
    judged = elimtool("check", checks, "--run", tmp_path / "run")
    assert judged.code == 10 and "removed" in judged.out, judged.out + judged.err
    assert "3 checks: 2 passed, 1 failed" in judged.out


@pytest.mark.parametrize("width", [50, 80])
def test_a_text_that_leaves_the_grammar_and_a_refused_target_are_told(width: int) -> None:
    row = {
        "position": 4,
        "step": 0,
        "chain": "hf",
        "engine": "llguidance 1",
        "syntax": "json_schema",
        "n_valid": 1,
        "refused": " x",
        "state": None,
        "may_stop": None,
        "n_allowed": None,
        "forced": None,
        "mass_removed": 0.0,
        "cut": None,
        "cut_prob": None,
        "distortion_so_far": None,
    }
    target = {"position": 4, "chain": "hf", "target": "yes", "n_valid": 0, "valid_prefix": "", "refused": "y"}
    target |= {"allowed": ["n"], "n_allowed": 1, "complete": False}

    class Made:
        def rows(self, name: str, *_: object) -> list[dict[str, object]]:
            return {"walk_grammar": [row], "grammar": [row], "grammar_targets": [target]}.get(name, [])

    lines = grammar_lines(Made(), {"prompt_id": "p"}, Screen(width))  # type: ignore[arg-type]
    assert all(line.cell_len <= width for line in lines)
    told = " ".join(" ".join(line.plain for line in lines).split())
    assert "the text leaves it at its token 2, ' x': nothing is removed from there on" in told
    assert "refused from the first token on; 1 token allowed there, such as 'n'" in told
    (listing,) = grammars(Made(), {"prompt_id": "p"})  # type: ignore[arg-type]
    assert listing.rows[0][2] == "any"


def test_commands_choose_the_library(elimtool: Command, tmp_path: Path) -> None:
    asked = ("trace", "x", "-m", tmp_path / "nowhere", "--grammar-engine")
    done = elimtool(*asked, "outlines", "--regex", "a")
    assert done.code == 2 and "--grammar-engine: there is no 'outlines'" in done.err
    done = elimtool(*asked, "xgrammar")
    assert done.code == 2 and "--grammar-engine makes the masks of a grammar, and there is none" in done.err
