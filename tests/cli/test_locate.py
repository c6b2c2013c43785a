"""``elimtool locate`` through the real entry point: story, directory, JSON, figure, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elimtool.report.facts import Tables
from elimtool.report.html import payload
from elimtool.run import open_run

from .conftest import Command

CLEAN, CORRUPT = "The text 12345 is", "The text 12QZ5 is"


def test_a_story_a_directory_its_page_and_its_figure(
    elimtool: Command, llama_directory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ("-t", "Paris", "--foil", "token", "--sites", "all", "-m", llama_directory)
    done = elimtool("locate", CLEAN, "--corrupt", CORRUPT, *options, "-o", out)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "Paris" in said and "token" in said and "a gap of" in said, said
    assert "corrupted: " in said and "QZ" in said, said
    assert max(map(len, done.out.splitlines())) <= 100
    page, picture = tmp_path / "page.html", tmp_path / "map.svg"
    assert elimtool("report", out, "-o", page).code == 0
    assert "Residual stream: what restores" in page.read_text(encoding="utf-8")
    (line,) = payload.front(Tables(open_run(out)))[
        "prompts"
    ]  # the corrupt prompt stands beside the clean one
    assert line["sides"] == ["clean", "corrupt"]
    assert "".join(part for part, changed in line["parts"][1] if changed) == "QZ"
    drawn = elimtool("report", out, "--figure", "locations", "-o", picture)
    assert drawn.code == 0, drawn.err
    assert picture.stat().st_size > 1000


def test_json_and_quiet(elimtool: Command, llama_directory: Path, tmp_path: Path) -> None:
    asked = ("locate", CLEAN, "--noise", "2345", "-t", "Paris", "-m", llama_directory)
    found = json.loads(elimtool(*asked, "--json").out)
    assert {"location_pairs", "locations"} <= set(found["tables"])
    done = elimtool(*asked, "-q", "-o", tmp_path / "run")
    assert done.out.strip() == str(tmp_path / "run") and not done.err


def test_unequal_lengths_are_shown_side_by_side_and_ends_are_said(
    elimtool: Command, llama_directory: Path
) -> None:
    asked = ("-t", "Paris", "-m", llama_directory)
    done = elimtool("locate", "ab1cd", "--corrupt", "ab23cd\n", *asked)
    assert done.code == 2 and "one line break at the end of the corrupt prompt is dropped" in done.err
    lines = done.err[done.err.index("hint: ") :].splitlines()
    assert lines[0] == "hint: side by side, where they differ:" and lines[1].split() == ["prompt", "corrupt"]
    assert any(line.split()[-2:] == [at, "'3'"] for line in lines for at in "0123456789"), lines
    done = elimtool("locate", CLEAN, "--corrupt", CORRUPT, "--prefill", " so", *asked, "--json")
    run = json.loads(done.out)
    assert [one["n_prefill"] for one in run["tables"]["prompts"]] == [3, 3]
    assert run["tables"]["location_pairs"][0]["target_token"] != ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((CLEAN, "--corrupt", CORRUPT), "say with --target"),
        ((CLEAN, "-t", "Paris"), "give either --corrupt or --noise"),
        ((CLEAN, "--corrupt", "The text", "-t", "Paris"), "side by side"),
        ((CLEAN, "--corrupt", CORRUPT, "-t", "Paris", "--sites", "heads"), "did you mean 'head'"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(
    elimtool: Command, llama_directory: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = elimtool("locate", *arguments, "-m", llama_directory)
    assert done.code == 2 and said in done.err
