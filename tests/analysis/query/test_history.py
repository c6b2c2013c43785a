"""A number over runs: limits by hand, alarms and changes where they are planted, quiet series without any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from scipy import stats

import elimtool as elimpackage
from elimtool.analysis.query.history import MetricQuery, follow, limits
from elimtool.analysis.query.runs import find_runs
from elimtool.errors import ElimError
from elimtool.report.figures.draw import picture
from elimtool.report.figures.history import history
from elimtool.run.reader import Run
from tests.cli.conftest import Command, elimtool
from tests.report.runs import eight, made, quiet

__all__ = ["elimtool"]

Grid = Any
Save = Callable[[Grid], Path]
ASKED = MetricQuery("survival.prob")


@pytest.fixture(scope="module")
def base() -> Run:
    return eight()


def test_limits_by_hand() -> None:
    points = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 100])
    centre, half, made_of = limits(points, 0.0)
    first = points[:8]
    expected = stats.t.ppf(0.99865, 7) * first.std(ddof=1) * np.sqrt(1 + 1 / 8)
    assert (centre, made_of) == (4.5, 8)
    assert half == pytest.approx(expected)
    assert limits(points[:8], 0.0)[2] == 0  # seven before the last are too few
    assert limits(np.ones(30), 0.01)[1:] == (pytest.approx(0.1), 20)  # reruns equal to the bit


def test_alarms_of_quiet_series_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for series in rng.normal(0, 1, (400, 50)):
        centre, half, made_of = limits(series, 0.0)
        alarms += bool((np.abs(series[made_of:] - centre) > half).any())
    assert 0.02 < alarms / 400 < 0.12  # 7 % for 30 judged points


def test_a_planted_drop_is_out_of_limits_and_a_change_point(base: Run) -> None:
    grid = quiet(26, seed=2)
    grid[23:] -= 0.05
    found = follow(made(base, grid), ASKED)
    rows = found.table.to_pandas()
    assert rows["value"].to_numpy() == pytest.approx(grid.mean(1))
    assert rows["order"].tolist() == list(range(26)) and set(rows["n_prompts"]) == {8}
    assert [row["order"] for row in found.rows if row["beyond"]] == [23, 24, 25]
    assert [row["order"] for row in found.rows if row["changed"]] == [23]
    assert rows["beyond"].isna().sum() == 20
    drop = found.rows[23]
    assert drop["change"] == pytest.approx((grid[23] - grid[22]).mean())
    assert drop["change_low"] < drop["change"] < drop["change_high"] < 0
    p = stats.ttest_rel(grid[23], grid[22]).pvalue
    assert drop["p_adjusted"] == pytest.approx(min(1, 25 * p))
    low, high = stats.t.interval(0.95, 7, grid[3].mean(), stats.sem(grid[3]))
    assert (found.rows[3]["ci_low"], found.rows[3]["ci_high"]) == pytest.approx((low, high))


def test_reruns_equal_to_the_bit_are_quiet_and_a_hair_is_rounding(base: Run) -> None:
    grid = np.repeat(quiet(1), 12, axis=0)
    grid[11] += 1e-7
    found = follow(made(base, grid), ASKED)
    assert not any(row["beyond"] or row["changed"] for row in found.rows)
    grid[11] += 0.01
    assert follow(made(base, grid), ASKED).rows[11]["beyond"]
    assert not follow(made(base, grid), MetricQuery("survival.prob", floor=0.01)).rows[11]["beyond"]


def test_orders_series_and_common_prompts(base: Run) -> None:
    runs = made(base, quiet(3), revision="step{}00", label="v{}")
    turned = dict(reversed(runs.items()))
    for over in ("started", "revision", "label"):
        assert [row["run"] for row in follow(turned, MetricQuery("survival.prob", over=over)).rows] == list(
            runs
        )
    numbered = made(base, quiet(11), label="step{}")
    by_label = follow(dict(sorted(numbered.items())), MetricQuery("survival.prob", over="label"))
    assert [row["label"] for row in by_label.rows] == [f"step{day}" for day in range(11)]
    each = follow(runs, MetricQuery("survival.prob", each=True))
    assert len(each.rows) == 3 * 8 and {row["prompt_id"] for row in each.rows} == {
        f"prompt-000{n}" for n in range(8)
    }
    assert all(row["change"] is None and row["ci_low"] is None for row in each.rows)
    kept = pc.field("prompt_id") != "prompt-0000"
    fewer = {name: base.arrow(name).filter(kept) for name in ("prompts", "survival")}
    some = follow({**runs, "fewer": Run.from_tables(base.manifest, fewer)}, ASKED)
    assert {row["n_prompts"] for row in some.rows} == {7}
    assert some.notes == ("1 prompts are left out: they have no number in some run.",)


def test_what_cannot_be_followed_is_refused_or_left_out(base: Run) -> None:
    runs = made(base, quiet(2))
    bare = Run.from_tables(base.manifest, {"prompts": base.arrow("prompts")})
    found = follow({**runs, "bare": bare}, ASKED)
    assert len(found.rows) == 2 and "bare is left out" in found.notes[0]
    for asked, says in (
        (MetricQuery("verdicts.outcome"), "is not a number"),
        (MetricQuery("survival.probs"), "no such column"),
        (MetricQuery("survival.prob", over="size"), "is not valid"),
        (MetricQuery("survival.prob", over="label"), "has no label"),
        (MetricQuery("survival.prob", agg="modal"), "`agg`"),
        (MetricQuery("lens.rank"), "no run has lens.rank"),
    ):
        with pytest.raises(ElimError, match=says):
            follow(runs, asked)


def test_as_a_user_types_it(elimtool: Command, base: Run, tmp_path: Path) -> None:
    grid = quiet(26, seed=2)
    grid[23:] -= 0.05
    for name, run in made(base, grid, label="week {}").items():
        run.save(tmp_path / "runs" / name)
    folder = tmp_path / "runs"
    shown = elimtool("query", "--metric", "survival.prob", folder)
    words = " ".join(shown.out.split())
    assert shown.code == 0, shown.err
    assert "survival.prob: 26 runs, mean over 8 prompts that all have" in words
    assert "limits of the first 20 runs: 0.4" in words
    assert "below its limits at week 23 (2026-01-24)" in words and "changed at week 23" in words
    rows = json.loads(elimtool("query", "--metric", "survival.prob", folder, "--json").out)
    assert [row["label"] for row in rows if row["beyond"]] == ["week 23", "week 24", "week 25"]
    out = tmp_path / "history.csv"
    assert elimtool("query", "--metric", "survival.prob", folder, "-o", out).code == 0
    assert len(out.read_text().splitlines()) == 27
    for arguments, says in (
        (["query", "--metric", "survival.prob"], "name the runs to follow"),
        (["query", "SELECT 1", folder, "--chain", "hf"], "--chain goes with --metric"),
        (["query", "SELECT 1", folder, "--agg", "max"], "--agg goes with --metric"),
        (["query", "SELECT 1", folder, "--over", "label"], "--over goes with --metric"),
        (["query", "--metric", "survival.prob", folder, "--limit", "3"], "--limit goes with SQL"),
        (["query", "--metric", "survival.prob", folder, "--by", "day"], "is not valid"),
    ):
        refused = elimtool(*arguments)
        assert refused.code == 2 and says in refused.err, refused.err
    assert next(iter(find_runs([folder]))) == f"{folder}/run0"


def test_one_run_has_no_verdict(elimtool: Command, base: Run, tmp_path: Path) -> None:
    base.save(tmp_path / "run")
    words = " ".join(elimtool("query", "--metric", "survival.prob", tmp_path / "run").out.split())
    assert "survival.prob: 1 run, mean" in words and "no control limits: they need 9 runs or more" in words
    assert "nothing is out" not in words and "no change" not in words


def test_change_points_of_quiet_series_are_as_rare_as_promised() -> None:
    from elimtool.analysis.statistics.families import holm

    rng = np.random.default_rng(2)
    hits = 0
    for grid in rng.normal(0, 1, (1000, 26, 8)):
        p = stats.ttest_rel(grid[1:], grid[:-1], axis=1).pvalue  # what the rows hold, see the planted drop
        hits += bool((holm(p) <= 0.05).any())
    assert 0.02 < hits / 1000 < 0.08


def test_a_label_is_kept_and_is_no_part_of_what_was_run(
    elimtool: Command, llama_directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "one", "prompt": "The capital", "targets": ["a"]}\n')
    (tmp_path / "c.yaml").write_text(
        f"version: 1\nmodel: {llama_directory}\nprompts: p.jsonl\n"
        "checks:\n  - {id: any, metric: final_rank, max: 300}\n"
    )
    commands = {
        "trace": ("trace", "The capital", "-t", "a", "-m", llama_directory, "--tables", "survival"),
        "batch": ("batch", tmp_path / "p.jsonl", "-m", llama_directory, "--tables", "survival", "-q"),
        "check": ("check", tmp_path / "c.yaml"),
    }
    for name, command in commands.items():
        bare, labelled = tmp_path / f"{name}-bare", tmp_path / name
        assert elimtool(*command, "-o", bare).code == 0
        done = elimtool(*command, "-o", labelled, "--label", "build 7")
        assert done.code == 0, done.err
        runs = [elimpackage.open_run(one) for one in (bare, labelled)]
        assert [run.manifest.label for run in runs] == [None, "build 7"]
        assert runs[0].manifest.fingerprint == runs[1].manifest.fingerprint
        assert "label" not in runs[0].manifest.to_dict()


def test_the_history_as_a_picture(elimtool: Command, base: Run, tmp_path: Path) -> None:
    grid = quiet(26, seed=2)
    grid[23:] -= 0.05
    for name, run in made(base, grid, label="week {}").items():
        run.save(tmp_path / "runs" / name)
    out = tmp_path / "history.svg"
    done = elimtool("query", "--metric", "survival.prob", tmp_path / "runs", "-o", out)
    assert done.code == 0, done.err
    drawn = history(follow(find_runs([tmp_path / "runs"]), ASKED))
    assert drawn.beyond == [23, 24, 25] and drawn.changed == [23] and drawn.runs[25] == "week 25"
    again = picture(drawn, "svg")
    assert out.read_bytes() == again == picture(drawn, "svg") and b"<svg" in again
    refused = elimtool("query", "SELECT 1", tmp_path / "runs", "-o", tmp_path / "x.png")
    assert refused.code == 2 and "history of a number" in refused.err
    each = elimtool(
        "query", "--metric", "survival.prob", "--by", "prompt", tmp_path / "runs", "-o", tmp_path / "x.png"
    )
    assert each.code == 2 and "one series" in each.err


def test_the_history_as_a_page(elimtool: Command, base: Run, tmp_path: Path) -> None:
    grid = quiet(26, seed=2)
    grid[23:] -= 0.05
    for name, run in made(base, grid, label="</script><b>{}").items():
        run.save(tmp_path / "runs" / name)
    out = tmp_path / "history.html"
    asked = ("query", "--metric", "survival.prob", tmp_path / "runs", "-o", out)
    done = elimtool(*asked)
    assert done.code == 0 and done.out.strip() == str(out), done.err
    shown = data_of(out, "front")
    (figure,) = shown["overview"]
    rows = follow(find_runs([tmp_path / "runs"]), ASKED).rows
    assert figure["values"] == pytest.approx([row["value"] for row in rows], rel=1e-7)
    assert figure["limits"] == pytest.approx([rows[0][name] for name in ("low", "centre", "high")], rel=1e-7)
    assert figure["beyond"] == [23, 24, 25] and figure["changed"] == [23]
    assert figure["runs"][3] == "</script><b>3" and "<b>3" not in out.read_text()
    assert (
        "Limits of the first 20 runs: 0.4" in figure["note"] and "below its limits" in figure["note"].lower()
    )
    cells = [dict(zip(figure["columns"], row, strict=True)) for row in figure["rows"]]
    assert [float(one["value"]) for one in cells] == pytest.approx([row["value"] for row in rows], rel=1e-5)
    assert [one["remark"] for one in cells[22:]] == [
        "",
        "out of its limits, change point",
        *["out of its limits"] * 2,
    ]
    assert elimtool(*asked).code == 2  # it is there
    assert elimtool(*asked, "--by", "prompt", "--overwrite").code == 0
    assert len(data_of(out, "front")["overview"]) == 8
    refused = elimtool("query", "SELECT 1", tmp_path / "runs", "-o", tmp_path / "x.html")
    assert refused.code == 2 and "a page shows the history of a number" in refused.err


def data_of(page: Path, name: str) -> Any:
    """The data that a page carries under a name."""
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split(f'id="{name}">')[1].split("</script>")[0])
