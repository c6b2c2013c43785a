"""SQL over runs: what it gives, against pandas; what it refuses; what files and the screen say."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import elimtool as package
from elimtool.analysis.populations.sweep.api import sweep
from elimtool.analysis.query.examples import EXAMPLES
from elimtool.analysis.query.runs import find_runs
from elimtool.analysis.query.sql import select
from elimtool.errors import ElimError
from elimtool.run.layout import MANIFEST
from elimtool.run.schema import TABLES
from tests.analysis.populations.test_sweep import capitals_cost, made
from tests.cli.conftest import Command, elimtool

__all__ = ["elimtool"]

Save = Callable[[Any], Path]

HOSTILE = [
    "SELECT * FROM '{file}'",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM read_csv('{text}')",
    "SELECT * FROM sniff_csv('{text}')",
    "SELECT * FROM read_text('{text}')",
    "SELECT * FROM read_blob('{text}')",
    "SELECT * FROM read_json('{text}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM query_table('{file}')",
    "SELECT * FROM query('COPY runs TO ''{folder}/o.csv''')",
    "SELECT * FROM 'https://example.com/x.parquet'",
    "WITH x AS (SELECT * FROM read_text('{text}')) SELECT * FROM x",
    "COPY runs TO '{folder}/o.csv'",
    "COPY (SELECT 1) TO '{folder}/o.parquet'",
    "EXPORT DATABASE '{folder}/o'",
    "ATTACH '{folder}/o.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "CREATE TABLE o AS SELECT 1",
    "CREATE SECRET s (TYPE s3)",
    "DROP VIEW runs",
    "INSERT INTO runs SELECT * FROM runs",
    "SELECT 1; DROP VIEW runs",
    "PREPARE p AS SELECT 1",
    "CALL pragma_version()",
    "CHECKPOINT",
    "USE memory",
    "BEGIN",
    "SELECT getenv('HOME')",
    "SELECT * FROM enable_logging()",
    "",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_what_is_not_a_select_over_the_runs_is_refused(sql: str, save: Save, tmp_path: Path) -> None:
    runs = find_runs([save([0.0])])
    (file,) = (tmp_path / "runs" / "r00" / "survival").glob("*.parquet")
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    before = sorted(tmp_path.rglob("*"))
    text = sql.format(file=file, text=tmp_path / "secret.csv", folder=tmp_path)
    with pytest.raises(ElimError):
        select(text, runs)
    assert sorted(tmp_path.rglob("*")) == before
    assert select("SELECT count(*) AS n FROM runs", runs)[0].to_pylist() == [{"n": 1}]


def test_views_are_the_tables_of_all_runs(save: Save) -> None:
    runs = find_runs([save([0.0, 0.5])])
    rows, more = select("SELECT * FROM survival", runs)
    frames = [run.table("survival").assign(run=name) for name, run in runs.items()]
    expected = pd.concat(frames, ignore_index=True)
    assert not more and rows.num_rows == len(expected)
    ours = rows.to_pandas()
    for column in TABLES["survival"].names:
        if column != "temperature_ranges":
            same = ours[column].isna() & expected[column].isna() | (ours[column] == expected[column])
            assert same.all(), column
    assert rows.column_names[:5] == ["run", "model", "revision", "label", "started"]
    assert list(dict.fromkeys(ours["run"])) == list(runs)
    assert set(ours["label"].dropna()) == {"week 1"}
    per_run = "SELECT run, avg(target_logprob) AS mean FROM survival GROUP BY run ORDER BY run"
    means = select(per_run, runs)[0].to_pandas()["mean"]
    assert means[0] - means[1] == pytest.approx(0.5)


def test_a_table_that_only_one_run_has_and_a_column_that_an_older_one_lacks(
    save: Save, tmp_path: Path
) -> None:
    folder = save([0.0, 0.0])
    run = package.open_run(folder / "r01").only(["prompts", "survival"])
    run.save(tmp_path / "runs" / "small")
    runs = find_runs([folder])
    counted = "SELECT run[-5:] AS run, count(*) AS n FROM {} GROUP BY ALL ORDER BY ALL"
    assert {row["run"] for row in select(counted.format("survival"), runs)[0].to_pylist()} == {
        "s/r00",
        "s/r01",
        "small",
    }
    assert len(select(counted.format("lens_layers"), runs)[0]) == 2


def test_lost_rows_are_said(save: Save) -> None:
    folder = save([0.0])
    (part,) = (folder / "r00" / "survival").glob("*.parquet")
    table = pq.read_table(part)
    pq.write_table(table.slice(0, table.num_rows - 1), part)
    with pytest.raises(ElimError, match=r"and run\.json counted"):
        select("SELECT * FROM survival", find_runs([folder]))


def test_a_query_without_end_is_stopped(save: Save) -> None:
    runs = find_runs([save([0.0])])
    endless = "SELECT count(*) FROM range(100000000) a, range(100000000) b"
    with pytest.raises(ElimError, match=r"took more than 0\.2 s"):
        select(endless, runs, seconds=0.2)


def test_the_examples_run_over_a_whole_run(whole_directory: Path) -> None:
    assert len(EXAMPLES) == 10
    runs = find_runs([whole_directory])
    filled = [select(sql, runs)[0].num_rows for _, sql in EXAMPLES]
    assert sum(count > 0 for count in filled) >= 8, filled


@pytest.fixture(scope="module")
def whole_directory(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("query") / "run"
    package.trace(llama, "The capital of France is", targets=["Paris"]).save(path)
    return path


def test_runs_are_found_by_directory_folder_and_pattern(save: Save, tmp_path: Path) -> None:
    folder = save([0.0, 0.1, 0.2])
    (folder / "notes").mkdir()
    names = [f"{folder}/r0{number}" for number in range(3)]
    assert list(find_runs([folder])) == names
    assert list(find_runs([f"{folder}/*"])) == names
    assert list(find_runs([folder / "r02", folder])) == [names[2], *names[:2]]
    for wrong, says in ((f"{folder}/x*", "there is no run in"), (tmp_path / "none", "does not exist")):
        with pytest.raises(ElimError, match=says):
            find_runs([wrong])
    (folder / "r01" / MANIFEST).write_text("{}")
    with pytest.raises(ElimError):
        find_runs([folder])


def test_as_a_table_csv_json_and_parquet(elimtool: Command, save: Save, tmp_path: Path) -> None:
    folder = save([0.0, 0.5])
    sql = "SELECT run, target, target_logprob, [target, run] AS both, started FROM survival ORDER BY ALL"
    shown = elimtool("query", sql, folder)
    assert shown.code == 0 and "target_logprob" in shown.out.splitlines()[0], shown.err
    rows = json.loads(elimtool("query", sql, folder, "--json").out)
    assert rows[0]["started"].startswith("2026-01-01T00:00:00")
    table = pd.read_csv(io.StringIO(elimtool("query", sql, folder, "--format", "csv").out))
    assert table["target_logprob"].tolist() == pytest.approx([row["target_logprob"] for row in rows])
    assert isinstance(json.loads(table["both"].iloc[0]), list)
    out = tmp_path / "o.parquet"
    assert elimtool("query", sql, folder, "-o", out).out == f"{out}\n"
    assert pq.read_table(out).num_rows == len(rows)
    assert elimtool("query", sql, folder, "-o", out).code == 2
    first = elimtool("query", sql, folder, "--limit", "1")
    assert "more rows are past the limit" in first.out
    for arguments, says in (
        (["query", sql], "give one SELECT statement and the runs"),
        (["query", sql, folder, "--format", "parquet"], "needs a file"),
        (["query", sql, folder, "--format", "xlsx"], "is unknown"),
        (["query", "DROP VIEW runs", folder], "one SELECT statement, got DROP"),
        (["query", "SELECT * FROM survivals", folder], "did you mean 'survival'"),
    ):
        refused = elimtool(*arguments)
        assert refused.code == 2 and says in refused.err, refused.err
    assert elimtool("query", "--example").out.count("SELECT") >= 10


def test_what_was_found_in_several_runs_is_asked_too(elimtool: Command, tmp_path: Path) -> None:
    """By its folder, or the folder above: a row of ``runs`` like any, with what the runs have in common."""
    of_several = tmp_path / "all" / "found"
    sweep({"a": made(capitals_cost), "b": made(lambda *_: 0.0)}).save(of_several)
    for place in (of_several, tmp_path / "all", str(tmp_path / "all" / "*")):
        asked = "SELECT run, spread FROM sweep_spread"
        done = elimtool("query", asked, str(place), "--json")
        (row,) = json.loads(done.out)
        assert Path(row["run"]) == of_several and 0 < row["spread"] <= 1
    assert find_runs([of_several], findings=True).keys() == {of_several.as_posix()}
    with pytest.raises(ElimError, match="is not a run directory"):
        find_runs([of_several])
