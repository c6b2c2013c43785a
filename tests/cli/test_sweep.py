"""``elimtool sweep``: a suite is measured and compared, runs are read, several are a factor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command

SUITE = """
version: 1
name: tiny
defaults: {targets: [" e"]}
templates: [{id: a, template: "{lead} the {item} of"}, {id: b, template: "{lead} to {item} and"}]
slots: {lead: [it, is], item: [as, at, an, in, up, or]}
"""
QUICK = ["--samplers", "hf", "--lens", "raw"]


@pytest.fixture
def suite(elimtool: Command, llama_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """After ``elimtool``, which takes the variable away."""
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))
    file = tmp_path / "tiny.yaml"
    file.write_text(SUITE)
    return file


def test_a_suite_is_swept_kept_and_read_again(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = elimtool("sweep", suite, "-o", out, "--outcome", "logprob", *QUICK)
    assert done.code == 0 and "4 variants x 6 items" in done.out, done.err
    read = elimtool("sweep", out, "--outcome", "logprob", "--json")
    rows = json.loads(read.out)["tables"]["sweep_effects"]
    assert {row["factor"] for row in rows} == {"template", "lead"}
    assert elimtool("sweep", out, "--outcome", "logprob").out == done.out
    shown = elimtool("run", "show", out, "sweep_variants", "--columns", "variant,value")
    assert shown.code == 0 and "a/it" in shown.out
    page = elimtool("report", out, "-o", tmp_path / "page.html")
    assert page.code == 0 and "sweep_matrix" in (tmp_path / "page.html").read_text()

    several = elimtool("sweep", out, out, "--outcome", "logprob")  # one run named twice is one
    assert several.code == 0 and "is not kept" in several.err
    refused = elimtool("sweep", out, out, "-m", "smollm2")
    assert refused.code == 2 and "measured already" in refused.err
    checks = tmp_path / "checks.yaml"
    checks.write_text(
        "version: 1\nchecks: [{id: spread, metric: sweep_spread.spread, max: 0}, "
        "{id: items, metric: sweep_spread.n_items, min: 6}]\n"
    )
    judged = elimtool("check", checks, "--run", out)
    assert judged.code == 10 and "spread" in judged.out, judged.err


def test_concepts_are_followed_over_wordings(elimtool: Command, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = elimtool("sweep", suite, "-o", out, "--concept", "words=e, a, the", *QUICK)
    assert done.code == 0 and "'words' is alive in" in done.out, done.err
    rows = json.loads(elimtool("sweep", out, "--json").out)["tables"]["stability"]
    assert {row["over"] for row in rows} == {"variants"} and len({row["key"] for row in rows}) == 7
    assert any(row["rbo"] is not None for row in rows)
    refused = elimtool("sweep", out, "--concept", "words=e")
    assert refused.code == 2 and "--concept goes with a suite" in refused.err
    wrong = elimtool("sweep", suite, "--concept", "words", *QUICK)
    assert wrong.code == 2 and "--concept must be different names with words" in wrong.err
