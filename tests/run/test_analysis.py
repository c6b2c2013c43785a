"""Findings beside a run: whole or not there, the same bytes, read like tables, dropped with their run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from elimtool.errors import ElimError
from elimtool.run import open_run
from elimtool.run.analysis import Analysis
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from elimtool.run.tables.findings import COMMAND_OF, FINDING_TABLES, FINDINGS
from tests.report.runs import france


def made_up(run: Run, **effects: Any) -> Analysis:
    """An audit with two effects that were made up."""
    filler = {
        column.name: None if column.nullable else ([] if "list" in str(column.type) else 0)
        for column in FINDINGS["audit"]["audit_effects"].columns
    }
    texts = {"family": "other", "unit": "nats", "group_a": "a", "group_b": "b", "scope": "groups"}
    texts |= {"normalised": False}
    rows = [
        {**filler, **texts, "metric": "survives", "chain": "hf", "difference": 0.25, **effects},
        {**filler, **texts, "metric": "lens.logit", "layer": 29, "difference": 2.5, **effects},
    ]
    tables = {name: table.from_rows([]) for name, table in FINDINGS["audit"].items()}
    tables["audit_effects"] = FINDINGS["audit"]["audit_effects"].from_rows(rows)
    return Analysis.of("audit", run.manifest, tables, {"reference": None}, 0, ["something was left out"])


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(directory)): one.read_bytes() for one in directory.rglob("*") if one.is_file()
    }


def test_findings_are_the_same_bytes_beside_tables_that_stay(tmp_path: Path) -> None:
    run = france()
    run.save(tmp_path / "run")
    before = files(tmp_path / "run")
    found = made_up(run)
    path = found.save(tmp_path / "run")
    first = files(tmp_path / "run")
    found.save(tmp_path / "run")
    assert files(tmp_path / "run") == first
    assert {name: first[name] for name in before} == before
    assert path == tmp_path / "run" / "analysis" / "audit"

    again = open_run(tmp_path / "run")
    assert again.analyses == ("audit",) and "audit_effects" in again.findings
    assert not set(again.findings) & set(again.tables)
    assert again.analysis("audit").to_dict() == found.to_dict()
    assert again.table("audit_effects")["difference"].tolist() == [0.25, 2.5]
    assert again.analysis("audit").table("audit_effects").equals(again.table("audit_effects"))


def test_names_of_findings_are_nobody_elses() -> None:
    assert not FINDING_TABLES.keys() & TABLES.keys()
    assert all(name.startswith(command[:4]) for name, command in COMMAND_OF.items() if command == "audit")


def test_a_run_that_is_replaced_takes_its_findings_along(tmp_path: Path) -> None:
    run = france()
    run.save(tmp_path / "run")
    made_up(run).save(tmp_path / "run")
    run.save(tmp_path / "run", overwrite=True)
    assert open_run(tmp_path / "run").analyses == ()
    assert not (tmp_path / "run" / "analysis").exists()


def test_a_folder_of_the_users_that_is_called_analysis_stays(tmp_path: Path) -> None:
    run = france()
    run.save(tmp_path / "run")
    (tmp_path / "run" / "analysis").mkdir()
    (tmp_path / "run" / "analysis" / "notes.txt").write_text("mine")
    run.save(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "analysis" / "notes.txt").read_text() == "mine"


def test_findings_of_another_run_are_refused(tmp_path: Path) -> None:
    run = france()
    run.save(tmp_path / "run")
    other = run.manifest.model_copy(update={"model": "another"})
    made_up(Run(other, memory={})).save(tmp_path / "run")
    with pytest.raises(ElimError, match="is of another run") as caught:
        open_run(tmp_path / "run").analysis("audit")
    assert "elimtool audit" in caught.value.hint


def test_what_was_not_asked_for_says_how_to_ask(tmp_path: Path) -> None:
    france().save(tmp_path / "run")
    run = open_run(tmp_path / "run")
    for ask in (lambda: run.analysis("audit"), lambda: run.arrow("audit_effects")):
        with pytest.raises(ElimError, match="audit") as caught:
            ask()
        assert "elimtool audit" in caught.value.hint
    with pytest.raises(ElimError, match="there is no analysis 'audti'"):
        run.analysis("audti")


def test_a_lost_table_is_noticed(tmp_path: Path) -> None:
    run = france()
    run.save(tmp_path / "run")
    path = made_up(run).save(tmp_path / "run")
    (path / "audit_layers" / "part-00000.parquet").unlink()
    with pytest.raises(ElimError, match="lost its table 'audit_layers'"):
        open_run(tmp_path / "run").analysis("audit")


def test_a_table_of_a_later_version_is_empty(tmp_path: Path) -> None:
    run = france()
    run.save(tmp_path / "run")
    path = made_up(run).save(tmp_path / "run")
    (path / "audit_layers" / "part-00000.parquet").unlink()
    (path / "audit_layers").rmdir()
    manifest = json.loads((path / "analysis.json").read_text())
    del manifest["counts"]["audit_layers"]
    (path / "analysis.json").write_text(json.dumps(manifest))
    found = open_run(tmp_path / "run").analysis("audit")
    assert found.arrow("audit_layers").num_rows == 0 and found.arrow("audit_effects").num_rows


def test_queries_see_findings(tmp_path: Path) -> None:
    from elimtool.analysis.query.runs import find_runs
    from elimtool.analysis.query.sql import select

    run = france()
    run.save(tmp_path / "run")
    made_up(run).save(tmp_path / "run")
    rows, _ = select(
        "SELECT model, metric, difference FROM audit_effects ORDER BY difference",
        find_runs([tmp_path / "run"]),
    )
    assert rows.to_pylist()[-1] == {"model": "smollm2", "metric": "lens.logit", "difference": 2.5}


CHECKED = {
    "within": (
        "{id: a, metric: audit_effects.difference, rows: {metric: survives, chain: hf}, max: 0.3}",
        "",
    ),
    "past": (
        "{id: a, metric: audit_effects.difference, rows: {metric: survives}, max: 0.2}",
        "audit_effects.difference is 0.25, expected at most 0.2",
    ),
    "of all": (
        "{id: a, metric: audit_effects.difference, agg: max, max: 2}",
        "max audit_effects.difference is 2.5",
    ),
    "layer": ("{id: a, metric: audit_effects.difference, layers: last, rows: {chain: null}, min: 2.4}", ""),
    "none": ("{id: a, metric: audit_effects.difference, rows: {metric: other}, max: 1}", "has no such row"),
}


@pytest.mark.parametrize("name", CHECKED)
def test_checks_read_findings(name: str, tmp_path: Path) -> None:
    import elimtool

    check, said = CHECKED[name]
    run = france()
    run.save(tmp_path / "run")
    made_up(run).save(tmp_path / "run")
    file = tmp_path / "checks.yaml"
    file.write_text(f"version: 1\nchecks:\n  - {check}\n")
    report = elimtool.run_checks(file, run=tmp_path / "run")
    assert report.passed == (not said)
    assert said in "".join(one.message for result in report.results for one in result.bad)


REFUSED = {
    "two values": (
        "{id: a, metric: audit_effects.difference, max: 1}",
        "has 2 values",
        "rows: {metric: ...}",
    ),
    "no column": (
        "{id: a, metric: audit_effects.difference, rows: {mertic: a}, max: 1}",
        "no column 'mertic'",
        "metric",
    ),
    "prompts": (
        "{id: a, metric: audit_effects.difference, prompt: a, max: 1}",
        "not of single prompts",
        "rows",
    ),
    "rows of a run": ("{id: a, metric: final_rank, rows: {metric: a}, max: 1}", "no column 'metric'", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_checks_of_findings_that_say_too_little_or_too_much_are_refused(name: str, tmp_path: Path) -> None:
    import elimtool

    check, message, hint = REFUSED[name]
    run = france()
    run.save(tmp_path / "run")
    made_up(run).save(tmp_path / "run")
    file = tmp_path / "checks.yaml"
    file.write_text(f"version: 1\nprompts: [{{prompt: a}}]\nchecks:\n  - {check}\n")
    with pytest.raises(ElimError) as caught:
        elimtool.run_checks(file, run=tmp_path / "run")
    assert message in caught.value.message and hint in caught.value.hint


def test_a_check_of_findings_needs_a_run(tmp_path: Path) -> None:
    import elimtool

    file = tmp_path / "checks.yaml"
    file.write_text(
        "version: 1\nprompts: [{prompt: a}]\nchecks: [{id: a, metric: audit_effects.difference, max: 1}]\n"
    )
    with pytest.raises(ElimError, match="reads what elimtool audit finds"):
        elimtool.run_checks(file)
