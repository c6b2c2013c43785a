"""Baselines: never made silently, made for review, compared within tolerance or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from elimtool.analysis.check.baseline import Baseline, stored, write_baseline
from elimtool.analysis.check.judge import Judge
from elimtool.analysis.check.noise import Noise, write_noise
from elimtool.analysis.check.spec import Check, Defaults
from elimtool.errors import ElimError, Exit

Judged = Callable[..., Any]

DRIFT = (
    "{id: drift, select: {tag: capital}, metric: final_logprob, target: Paris,"
    " baseline: true, atol: 0.05EXTRA}"
)
TOP = "{id: top, prompt: fr, metric: topk_overlap, k: 5, min: 0.8}"
BASE = {"baseline": "base.json"}
ALL = {"update": "all"}


def drift(extra: str = "") -> str:
    return DRIFT.replace("EXTRA", extra)


def moved(run: Any, table: str, column: str, change: Callable[[Any], Any], prompt: str = "fr") -> Any:
    """The run with one prompt's values of a column changed."""
    from elimtool.run import Run

    tables = {name: run.arrow(name) for name in run.tables}
    rows = tables[table].to_pylist()
    for row in rows:
        if row["prompt_id"] == prompt:
            row[column] = change(row[column])
    tables[table] = pa.Table.from_pylist(rows, schema=tables[table].schema)
    return Run.from_tables(run.manifest, tables)


def with_manifest(run: Any, **facts: Any) -> Any:
    from elimtool.run import Run

    tables = {name: run.arrow(name) for name in run.tables}
    return Run.from_tables(run.manifest.model_copy(update=facts), tables)


def test_a_missing_baseline_fails_and_is_not_made(judged: Judged, tmp_path: Path) -> None:
    report = judged(drift(), **BASE)
    assert report.exit_code == Exit.BASELINE
    assert report.missing == str(tmp_path / "base.json")
    assert not (tmp_path / "base.json").exists()
    assert "has no baseline of final_logprob; it is -" in report.results[0].findings[0].message


def test_update_writes_what_then_passes(judged: Judged, tmp_path: Path) -> None:
    report = judged(drift(), TOP, options=ALL, **BASE)
    assert report.exit_code == Exit.OK
    assert sum(line.startswith("+ ") for line in report.updates) == 3
    written = (tmp_path / "base.json").read_text()
    content = json.loads(written)
    assert written == json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    assert content["checks"]["top"]["values"]["fr"][0].split(" ", 1)[0].isdigit()
    assert content["prompts"]["fr"]["text"] == "The capital of France is"
    assert judged(drift(), TOP, **BASE).passed
    again = judged(drift(), TOP, options=ALL, **BASE)
    assert again.updates == () and (tmp_path / "base.json").read_text() == written


@pytest.mark.parametrize(
    ("by", "extra", "passes"),
    [
        (-0.04, "", True),
        (-0.06, "", False),
        (0.06, "", False),
        (0.06, ", direction: decrease", True),
        (-0.06, ", direction: decrease", False),
        (-0.06, ", direction: increase", True),
        (0.06, ", direction: increase", False),
        (-0.06, ", rtol: 0.1", True),
        (-0.06, ", mostly: 0.5", True),
    ],
)
def test_tolerance_and_direction(judged: Judged, run: Any, by: float, extra: str, passes: bool) -> None:
    judged(drift(extra), options=ALL, **BASE)
    report = judged(drift(extra), of=moved(run, "lens", "logprob", lambda value: value + by), **BASE)
    assert report.passed is passes
    if not passes:
        (failed,) = [one for one in report.results[0].findings if one.status == "failed"]
        assert failed.prompt == "fr"
        assert failed.off == pytest.approx(0.06 - 0.05, abs=1e-6)


@pytest.mark.parametrize(
    ("defaults", "own", "passes"),
    [
        ({}, "", True),  # 1e-4 and 1e-4 of the value
        ({}, "atol: 1.0e-9", False),
        ({}, "rtol: 1.0e-9", False),
        ({"atol": 1e-9}, "", False),
        ({"atol": 1e-9}, "rtol: 1.0e-3", True),
        ({"atol": 1.0, "rtol": 1.0}, "atol: 1.0e-9", False),
        ({"atol": 1e-9, "rtol": 1e-3}, "", True),
    ],
)
def test_a_stated_tolerance_is_applied_as_stated(defaults: dict[str, float], own: str, passes: bool) -> None:
    given = {name: float(value) for name, value in (one.split(": ") for one in own.split(", ") if one)}
    check = Check.model_validate({"id": "a", "metric": "entropy", "baseline": True, **given})
    number: Any = SimpleNamespace(kind="number")
    judge = Judge(check, number, Defaults.model_validate(defaults), None)
    assert (judge.tolerance(2.0) >= 1e-4) is passes


def test_integers_use_atol_only(judged: Judged, run: Any) -> None:
    check = "{id: rank, prompt: fr, metric: final_rank, target: Paris, baseline: true, atol: 1, rtol: 0.5}"
    judged(check, options=ALL, **BASE)
    assert judged(check, of=moved(run, "lens", "rank", lambda value: value + 1), **BASE).passed
    assert not judged(check, of=moved(run, "lens", "rank", lambda value: value + 2), **BASE).passed


def test_first_tokens_with_a_tie_margin(judged: Judged, run: Any) -> None:
    judged(TOP, options=ALL, **BASE)
    rows = run.arrow("top_tokens").to_pylist()
    own = [row for row in rows if row["prompt_id"] == "fr"]
    gap = own[4]["logprob"] - own[5]["logprob"]
    swapped = {own[4]["token_id"]: own[5]["token_id"], own[5]["token_id"]: own[4]["token_id"]}
    change = moved(run, "top_tokens", "token_id", lambda token: swapped.get(token, token))
    strict = TOP.replace("0.8", "1")
    assert judged(TOP, of=change, **BASE).results[0].findings[0].seen == 0.8
    assert not judged(strict.replace("k: 5", f"k: 5, tie: {gap * 0.9}"), of=change, **BASE).passed
    assert judged(strict.replace("k: 5", f"k: 5, tie: {gap * 1.1}"), of=change, **BASE).passed


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"weights_sha256": "0" * 64}, "weights_sha256"),
        ({"tokenizer_sha256": "0" * 64}, "tokenizer_sha256"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"processing": "folded"}, "processing"),
        ({"lens": "ridge"}, "lens"),
        ({"sinks": "none"}, "sinks"),
        ({"schema_version": 1}, "schema_version"),
    ],
)
def test_another_identity_is_no_regression(
    judged: Judged, run: Any, facts: dict[str, Any], field: str
) -> None:
    judged(drift(), options=ALL, **BASE)
    report = judged(drift(), of=with_manifest(run, **facts), **BASE)
    assert report.exit_code == Exit.BASELINE
    assert any(line.startswith(f"{field}: ") for line in report.mismatch)
    assert {one.status for one in report.results[0].findings} == {"not_comparable"}


def test_another_schema_version_says_what_to_do(judged: Judged, run: Any) -> None:
    older = with_manifest(run, schema_version=1)
    judged(drift(), of=older, options=ALL, **BASE)
    report = judged(drift(), **BASE)
    assert report.exit_code == Exit.BASELINE
    (line,) = report.mismatch
    assert line.startswith("schema_version: 1 in the baseline, 2 now")
    assert "update the baseline and review it" in line
    judged(drift(), options=ALL, **BASE)
    (line,) = judged(drift(), of=older, **BASE).mismatch
    assert line.startswith("schema_version: 2 in the baseline, 1 now")
    assert "measure the run again" in line


@pytest.mark.parametrize("versions", [(1, 2), (2, 1)])
def test_runs_of_two_schema_versions_are_not_held_against_each_other(
    judged: Judged, run: Any, versions: tuple[int, int]
) -> None:
    now, other = (with_manifest(run, schema_version=version) for version in versions)
    with pytest.raises(ElimError, match="schema version") as caught:
        judged("{id: rank, prompt: fr, metric: final_rank, min: 1}", of=now, options={"against": other})
    assert caught.value.exit_code == Exit.BASELINE
    assert caught.value.hint and "measure" in caught.value.hint


@pytest.mark.parametrize("metric", ["outcome", "verdicts.outcome", "regime", "verdicts.evidence"])
def test_a_word_that_has_changed_is_not_judged_in_an_older_run(judged: Judged, run: Any, metric: str) -> None:
    check = f"{{id: word, select: {{tag: capital}}, metric: {metric}, target: Paris, is: survived}}"
    with pytest.raises(ElimError, match="another meaning since schema version 2") as caught:
        judged(check, of=with_manifest(run, schema_version=1))
    assert caught.value.exit_code == Exit.BASELINE
    rank = "{id: rank, select: {tag: capital}, metric: final_rank, target: Paris, min: 1}"
    assert judged(rank, of=with_manifest(run, schema_version=1)).passed


def test_what_has_changed_its_meaning_is_a_column() -> None:
    from elimtool.run.schema import CHANGED, SCHEMA_VERSION, TABLES

    for (table, column), version in CHANGED.items():
        assert column in TABLES[table].names and 1 < version <= SCHEMA_VERSION


def test_bounds_are_judged_whatever_the_baseline_is(judged: Judged, run: Any) -> None:
    bound = "{id: bound, metric: entropy, max: 0}"
    judged(drift(), bound, options=ALL, **BASE)
    report = judged(drift(), bound, of=with_manifest(run, dtype="bfloat16"), **BASE)
    assert report.exit_code == Exit.REGRESSION


def test_across_lets_weights_differ_and_names_them(judged: Judged, run: Any) -> None:
    top = {**BASE, "across": "[weights]"}
    judged(drift(), options=ALL, **top)
    other = with_manifest(run, weights_sha256="0" * 64, model="tuned")
    assert judged(drift(), of=other, **top).passed
    worse = with_manifest(moved(run, "lens", "logprob", lambda value: value - 1), weights_sha256="0" * 64)
    report = judged(drift(), of=worse, **top)
    assert report.exit_code == Exit.REGRESSION
    assert any(cause.startswith("weights: ") for cause in report.results[0].bad[0].causes)


def test_the_same_files_under_another_name(judged: Judged, run: Any) -> None:
    judged(drift(), options=ALL, **BASE)
    assert judged(drift(), of=with_manifest(run, model="elsewhere"), **BASE).passed


def test_update_new_only_adds(judged: Judged, run: Any, tmp_path: Path) -> None:
    judged(drift(), options=ALL, **BASE)
    before = json.loads((tmp_path / "base.json").read_text())["checks"]["drift"]
    change = moved(run, "lens", "logprob", lambda value: value - 1)
    report = judged(drift(), TOP, of=change, options={"update": "new"}, **BASE)
    after = json.loads((tmp_path / "base.json").read_text())["checks"]
    assert after["drift"] == before and "top" in after
    assert report.exit_code == Exit.REGRESSION
    with pytest.raises(ElimError, match="made with another model: dtype") as caught:
        judged(drift(), of=with_manifest(run, dtype="bfloat16"), options={"update": "new"}, **BASE)
    assert caught.value.exit_code == Exit.BASELINE


def test_stale_entries_warn_and_strict_fails(judged: Judged) -> None:
    judged(drift(), TOP, options=ALL, **BASE)
    report = judged(drift(), **BASE)
    assert report.exit_code == Exit.OK and "stale: no check 'top'" in report.warnings[0]
    assert judged(drift(), options={"strict": True}, **BASE).exit_code == Exit.REGRESSION
    assert judged(drift(), TOP, options={"only": ["drift"]}, **BASE).warnings == ()


def test_an_edited_prompt_is_named(judged: Judged, run: Any) -> None:
    judged(drift(), options=ALL, **BASE)
    other = moved(run, "prompts", "text", lambda text: text.replace("France", "Frannce"))
    report = judged(drift(), of=other, **BASE)
    assert report.passed and "'fr' passes but was edited" in report.warnings[0]
    worse = moved(other, "lens", "logprob", lambda value: value - 1)
    (cause,) = judged(drift(), of=worse, **BASE).results[0].bad[0].causes
    assert cause == "the prompt's text: 'The capital of France is' -> 'The capital of Frannce is'"


def test_a_changed_sampler_is_named(judged: Judged, run: Any) -> None:
    judged(drift(), options=ALL, **BASE)
    chains = json.loads(json.dumps(run.manifest.chains))
    stage = next(stage for stage in chains[0]["stages"] if stage["name"] == "top_k")
    stage["params"]["k"] = 3
    worse = with_manifest(moved(run, "lens", "logprob", lambda value: value - 1), chains=chains)
    (cause,) = judged(drift(), of=worse, **BASE).results[0].bad[0].causes
    assert cause.startswith("llama.cpp, top_k: k=40") and "-> k=3" in cause


def test_a_check_that_reads_something_else_is_not_compared(judged: Judged) -> None:
    judged(drift(), options=ALL, **BASE)
    report = judged(drift(", layers: 2"), **BASE)
    assert report.exit_code == Exit.BASELINE
    assert (
        "the check now reads 'final_logprob, target \"Paris\", layers [2]'"
        in report.results[0].bad[0].message
    )


def test_another_default_position_is_not_compared(judged: Judged, run: Any) -> None:
    judged(drift(", prompt: fr").replace("select: {tag: capital}, ", ""), options=ALL, **BASE)
    check = drift(", prompt: fr").replace("select: {tag: capital}, ", "")
    assert judged(check, **BASE).passed
    last = int(run.table("lens").query("prompt_id == 'fr'")["position"].max())
    report = judged(check, defaults=f"{{position: {last}}}", **BASE)
    assert report.exit_code == Exit.BASELINE
    assert f"the check now reads 'final_logprob, target \"Paris\", position {last}'" in report.summary
    changed = judged(check, options={"update": "new"}, defaults=f"{{position: {last}}}", **BASE)
    assert changed.exit_code == Exit.BASELINE and changed.updates == ()


def test_a_bound_with_a_missing_baseline_says_what_is_missing(judged: Judged, tmp_path: Path) -> None:
    report = judged("{id: a, metric: entropy, max: 99}", **BASE)
    assert report.exit_code == Exit.BASELINE and report.failed == ()
    assert report.summary == f"no baseline {tmp_path / 'base.json'}"
    assert report.to_dict()["missing"] == str(tmp_path / "base.json")


@pytest.mark.parametrize("value", [None, 3, [], ["abc"]])
def test_first_tokens_that_the_baseline_does_not_have(judged: Judged, tmp_path: Path, value: Any) -> None:
    judged(TOP, options=ALL, **BASE)
    content = json.loads((tmp_path / "base.json").read_text())
    content["checks"]["top"]["values"]["fr"] = value
    (tmp_path / "base.json").write_text(json.dumps(content))
    report = judged(TOP, **BASE)
    assert report.exit_code == Exit.BASELINE
    assert [one.status for one in report.results[0].findings] == ["no_baseline"]


def test_a_damaged_noise_floor(judged: Judged, tmp_path: Path) -> None:
    judged(drift(), options=ALL, **BASE)
    floor = {"floor": "x", "prompt": None, "variation": "", "unstable": 0}
    content = {"identity": {}, "variations": [], "checks": {"drift": floor}}
    (tmp_path / "base.noise.json").write_text(json.dumps(content))
    with pytest.raises(ElimError, match=r"base\.noise\.json is damaged"):
        judged(drift(), **BASE)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is damaged"), ("[]", "is not a baseline of elimtool"), ('{"elimtool_baseline": 9}', "format 9")],
)
def test_a_damaged_baseline(judged: Judged, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "base.json").write_text(text)
    with pytest.raises(ElimError, match=message) as caught:
        judged(drift(), **BASE)
    assert caught.value.exit_code == Exit.BASELINE


def test_stored_values() -> None:
    assert stored(0.123456789123) == 0.12345679
    assert stored(float("inf")) == "inf"
    assert stored(None) is None and stored(True) is True and stored(7) == 7
    assert stored((4, 5), ((4, " Paris"), (5, "x"))) == ["4  Paris", "5 x"]


def test_baselines_and_noise_behind_links_are_written_where_the_links_point(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name, write in (
        ("base.json", lambda path: write_baseline(path, Baseline({}, {}, {"\ud800": {}}, {}))),
        ("base.noise.json", lambda path: write_noise(path, Noise({"one": "\ud800"}, (), {}))),
    ):
        link, file = tmp_path / name, tmp_path / "elsewhere" / name
        link.symlink_to(file)
        for _ in range(2):  # to nothing yet, then over what is there
            write(link)
            assert link.is_symlink() and not file.is_symlink()
            assert "\\ud800" in file.read_text()
        assert sorted(one.name for one in file.parent.iterdir()) == [file.name]
        file.unlink()
