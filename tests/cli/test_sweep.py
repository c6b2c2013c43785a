"""``elimtool sweep``: a suite is measured and compared, runs are read, several are a factor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elimtool.run import open_run
from tests.cli.conftest import Command
from tests.run.test_analysis import files

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
    assert several.code == 0 and "was not kept" in several.err
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


def test_concepts_are_followed_through_texts_of_several_seeds(
    elimtool: Command, suite: Path, tmp_path: Path
) -> None:
    prompts, out = tmp_path / "p.jsonl", tmp_path / "run"
    prompts.write_text('{"id": "a", "prompt": "it is as"}\n{"id": "b", "prompt": "the end"}\n')
    line = ["--generate", 4, "--concept", "words=e, a, the", *QUICK]
    done = elimtool("sweep", prompts, "-o", out, "--seeds", 3, *line)
    assert done.code == 0 and "places of written texts at the output" in done.out, done.err
    assert "Nothing is scored" in done.out
    rows = open_run(out).table("stability")
    assert set(rows["over"]) == {"seeds"} and set(rows["reference"].dropna()) == {"seed 0"}
    assert {"a +1", "b +3", "all"} <= set(rows["key"]) and "a +0" not in set(rows["key"])

    # each text is the one that a run with this seed writes
    run = open_run(out)
    for seed in (0, 2):
        alone = tmp_path / f"alone {seed}"
        given = ["--seed", seed, "--position", "written", *line, "-o", alone]
        assert elimtool("trace", "it is as", *given).code == 0
        mine, theirs = (
            one.table("concepts").query(which).drop(columns="prompt_id").reset_index(drop=True)
            for one, which in ((run, f"prompt_id == 'a/seed {seed}'"), (open_run(alone), "position > -1"))
        )
        assert mine["alive"].equals(theirs["alive"]) and len(mine)
        assert mine["mass"].tolist() == pytest.approx(theirs["mass"].tolist(), abs=1e-5)
    traced = elimtool("trace", "it is as", "--seeds", 3, *line, "-o", tmp_path / "traced")
    assert traced.code == 0 and "places of written texts at the output" in traced.out, traced.err
    stable = open_run(tmp_path / "traced").table("stability")
    mine = rows[rows["key"].str.startswith("a ")].reset_index(drop=True)
    theirs = stable[stable["key"] != "all"].reset_index(drop=True)
    assert theirs["agreement"].tolist() == mine["agreement"].tolist()
    refused = elimtool("trace", "it is as", "--seeds", 3, "--concept", "words=e")
    assert refused.code == 2 and "--generate how many" in refused.err
    texts = run.table("prompts").set_index("prompt_id")["tokens"].map(tuple)
    assert len(set(texts)) > 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seeds", 3, "--concept", "w=e"], "--generate how many tokens"),
        (["--seeds", 3, "--generate", 4], "give --concept"),
        (["--generate", 4], "give --seeds too"),
        (["--seeds", 1, "--generate", 4, "--concept", "w=e"], "--seeds must be 2 or more"),
        (["--seeds", 3, "--generate", 4, "--concept", "w=e", "--budget", 22], "does not go with --budget"),
    ],
)
def test_seeds_that_say_nothing_are_refused(
    elimtool: Command, suite: Path, options: list[object], told: str
) -> None:
    done = elimtool("sweep", suite, *QUICK, *options)
    assert done.code == 2 and told in done.err, done.err


@pytest.mark.parametrize("search", ["halving", "thompson"])
def test_a_search_measures_what_it_asks_for(
    elimtool: Command, suite: Path, tmp_path: Path, search: str
) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    line = ["sweep", suite, "--samplers", "top_k=20", "--lens", "raw"]
    done = elimtool(*line, "-o", out, "--budget", 22, "--search", search, "--json")
    assert done.code == 0, done.err
    tables = json.loads(done.out)["tables"]
    (spread,) = tables["sweep_spread"]
    assert spread["search"] == search and spread["n_calls"] <= 22 and spread["p_value"] is None
    assert tables["sweep_effects"] == []
    assert elimtool(*line, "-o", whole, "--json").code == 0
    run, full = open_run(out), open_run(whole)
    assert len(run.table("prompts")) == spread["n_calls"] < len(full.table("prompts")) == 24
    key = ["text", "target"]
    first, second = (
        one.table("survival").merge(one.table("prompts")[["prompt_id", "text"]], on="prompt_id")
        for one in (run, full)
    )
    both = first.merge(second, on=key, suffixes=("", "_full"))
    assert len(both) == len(first) and (both["rank"] == both["rank_full"]).all()
    values = {row["variant"]: row["value"] for row in tables["sweep_variants"] if row["n_items"] == 6}
    known = {
        row["variant"]: row["value"]
        for row in json.loads(elimtool("sweep", whole, "--json").out)["tables"]["sweep_variants"]
    }
    assert len(values) >= 2 and all(known[name] == value for name, value in values.items())
    told = elimtool("report", out, "-o", tmp_path / "page.html")
    assert told.code == 0 and "outcomes" in (tmp_path / "page.html").read_text()
    again = elimtool(*line, "--budget", 22, "--search", search, "-o", out)
    assert again.code == 2 and "--overwrite" in again.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--search", "halving"], "give --budget too"),
        (["--budget", 22, "--search", "best"], "--search 'best' is not valid"),
        (["--budget", 22, "--shard-size", 4], "--shard-size does not go with --budget"),
        (["--budget", 22, "--search", "thompson", "--outcome", "rank"], "draws from shares"),
        (["--budget", 3], "--budget must be 16 or more"),
    ],
)
def test_searches_that_cannot_be_are_said(
    elimtool: Command, suite: Path, options: list[object], told: str
) -> None:
    done = elimtool("sweep", suite, *QUICK, *options)
    assert done.code == 2 and told in done.err, done.err


def test_what_is_found_in_several_runs_is_kept_in_a_folder_of_its_own(
    elimtool: Command, suite: Path, tmp_path: Path
) -> None:
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    for name, more in (("a", []), ("b", ["--samplers", "vllm"])):
        done = elimtool("sweep", suite, "-o", runs / name, "--concept", "words=e, a, the", *QUICK, *more)
        assert done.code == 0, done.err
    done = elimtool("sweep", runs / "a", runs / "b", "--intervened", "-o", kept)
    assert done.code == 2 and "no interventions" in done.err
    done = elimtool("sweep", runs / "a", runs / "b", "-o", kept, "--outcome", "logprob")
    assert done.code == 0 and done.err.count("analysis/sweep") == 1, done.err
    asked = json.loads((kept / "analysis" / "sweep" / "analysis.json").read_text())
    assert asked["options"]["runs"] == {
        str(runs / name): open_run(runs / name).manifest.fingerprint for name in "ab"
    }
    before = files(kept)
    folder = elimtool("sweep", runs, "-o", kept, "--outcome", "logprob")  # a folder of runs is its runs
    assert folder.out == done.out and files(kept) == before
    one = elimtool("sweep", runs / "a", runs / "a", "-o", kept)
    assert one.code == 2 and "is kept beside it" in one.err

    page = tmp_path / "page.html"
    assert elimtool("report", kept, "-o", page).code == 0
    shown = page.read_text()
    assert "2 runs together" in shown and "sweep_matrix" in shown and str(runs / "b") in shown
    drawn = elimtool("report", kept, "--figure", "sweep_matrix", "-o", tmp_path / "matrix.svg")
    assert drawn.code == 0, drawn.err
    rows = json.loads(elimtool("run", "show", kept, "sweep_effects", "--where", "factor=run", "--json").out)
    assert [row["level"] for row in rows["rows"]] == [str(runs / name) for name in "ab"]
    checks = tmp_path / "checks.yaml"
    gates = "{id: variants, metric: sweep_spread.n_variants, min: 8}, {id: rank, metric: lens.rank, max: 8}"
    checks.write_text(f"version: 1\nbaseline: kept.json\nchecks: [{gates}]\n")
    judged = elimtool("check", checks, "--run", kept, "--only", "variants", "--update")
    assert judged.code == 0 and (tmp_path / "kept.json").is_file(), judged.err
    assert elimtool("check", checks, "--run", kept, "--only", "variants", "--strict").code == 0
    refused = elimtool("check", checks, "--run", kept)
    assert refused.code == 2 and "has no table 'lens'" in refused.err, refused.err
