"""What was written is read back, null and all; what cannot be read is named."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elimtool.errors import ElimError
from elimtool.run.reader import Run, open_run
from elimtool.run.schema import TABLES

from .conftest import ADDED, as_before, awkward_rows, awkward_tables, make_manifest


@pytest.fixture
def saved(tmp_path, manifest):
    Run.from_tables(manifest, awkward_tables()).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("name", TABLES)
def test_arrow_gives_back_what_was_written(saved, name):
    read = open_run(saved).arrow(name)
    assert read.schema.equals(TABLES[name].schema)
    assert [field.metadata for field in read.schema]
    for got, wanted in zip(read.to_pylist(), awkward_rows(name), strict=True):
        for column, value in wanted.items():
            same = got[column] == value
            both_nan = isinstance(value, float) and math.isnan(value) and math.isnan(got[column])
            assert same or both_nan, column


@pytest.mark.parametrize("name", TABLES)
def test_pandas_types_follow_the_schema_whatever_the_data(tmp_path, saved, name):
    full = open_run(saved).table(name)
    empty = Run.from_tables(make_manifest(), {name: TABLES[name].from_rows([])}).table(name)
    assert list(full.columns) == list(empty.columns) == list(TABLES[name].names)
    assert full.dtypes.astype(str).to_dict() == empty.dtypes.astype(str).to_dict()
    for column in TABLES[name].columns:
        values = full[column.name]
        assert values.isna().iloc[3] == column.nullable, column.name
        assert not values.isna().iloc[0], column.name
        if str(column.type) == "int32":
            assert str(values.dtype) == ("Int32" if column.nullable else "int32")
        if str(column.type) in ("double", "float"):
            assert str(values.dtype) == {"double": "float64", "float": "float32"}[str(column.type)]


def test_columns_that_a_run_of_an_earlier_version_lacks_are_null(tmp_path, manifest):
    older = open_run(as_before(Run.from_tables(manifest, awkward_tables()), tmp_path / "older"))
    for name, columns in ADDED.items():
        assert not set(columns) & set(pq.read_schema(tmp_path / "older" / name / "part-00000.parquet").names)
        table = older.arrow(name)
        assert all(table.column(column).null_count == table.num_rows == 4 for column in columns)
        assert TABLES[name].conform(table).schema.equals(TABLES[name].schema)
        assert older.table(name)[columns].isna().all(axis=None)
    older.save(tmp_path / "copy")
    assert open_run(tmp_path / "copy").to_dict()["tables"] == older.to_dict()["tables"]


def test_depth_and_heads_stand_in_the_manifest_or_show_in_the_tables(manifest):
    layer, head = awkward_rows("lens_layers")[0], awkward_rows("attention_heads")[0]
    tables = {
        "lens_layers": TABLES["lens_layers"].from_rows([layer | {"layer": index} for index in (-1, 0, 6)]),
        "attention_heads": TABLES["attention_heads"].from_rows([head | {"head": index} for index in (0, 4)]),
    }
    stated = Run.from_tables(manifest, tables)
    assert (stated.n_layers, stated.n_heads) == (3, 2)
    older = Run.from_tables(make_manifest(n_layers=None, n_heads=None), tables)
    assert (older.n_layers, older.n_heads) == (7, 5)
    assert older.under(None).n_layers == 7
    bare = Run.from_tables(older.manifest, {"lens_layers": TABLES["lens_layers"].from_rows([])})
    assert (bare.n_layers, bare.n_heads) == (None, None)


def test_a_run_on_disk_and_one_in_memory_are_alike(saved):
    memory = Run.from_tables(make_manifest(), awkward_tables())
    disk = open_run(saved)
    assert disk.tables == memory.tables == tuple(TABLES)
    assert disk.path == saved
    assert memory.path is None
    assert disk.manifest.counts == memory.manifest.counts == dict.fromkeys(TABLES, 4)
    assert disk.manifest.fingerprint == memory.manifest.fingerprint
    pd.testing.assert_frame_equal(disk.prompts, memory.prompts)
    assert disk.to_dict()["tables"] == memory.to_dict()["tables"]
    assert "tiny" in repr(disk)


def test_an_empty_run(tmp_path, manifest):
    Run.from_tables(manifest, {}).save(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.tables == ()
    assert run.to_dict()["tables"] == {}


def test_parts_come_in_the_order_of_their_index(tmp_path, manifest):
    from elimtool.run.writer import RunWriter

    row = awkward_rows("lens")[0]
    with RunWriter(tmp_path / "run", manifest) as writer:
        for index in (100000, 2, 99999):
            writer.write_part("lens", index, TABLES["lens"].from_rows([row | {"rank": index}]))
        writer.finish()
    assert open_run(tmp_path / "run").table("lens")["rank"].tolist() == [2, 99999, 100000]


def test_to_dict_is_strict_json(saved):
    text = json.dumps(open_run(saved).to_dict(), allow_nan=False)
    loaded = json.loads(text)
    assert set(loaded) == {"run", "tables"}
    assert loaded["run"]["model"] == "tiny"
    rows = loaded["tables"]["lens"]
    assert [row["logprob"] for row in rows] == [0.25, None, None, 0.25]
    assert rows[0]["target"] == "é 🦊\n\0 東京"
    assert loaded["tables"]["survival"][0]["temperature_ranges"][0]["t_min"] == 0.25


def test_tables_that_do_not_fit_are_a_defect(manifest):
    with pytest.raises(ValueError, match="no such table"):
        Run.from_tables(manifest, {"lenses": TABLES["lens"].from_rows([])})
    with pytest.raises(ValueError, match="missing columns"):
        Run.from_tables(manifest, {"attention": TABLES["lens"].from_rows([])})


def test_what_is_no_run_directory_is_said(tmp_path, saved):
    for path, message, hint in [
        (tmp_path / "nothing", "does not exist", "the directory that the run was written to"),
        (tmp_path, "is not a run directory", "the directory that the run was written to"),
        (saved / "run.json", "is a file, not a run directory", f"the run directory is {saved}"),
        (saved / "lens", "is not a run directory", f"the run directory is {saved}"),
        (saved / "lens" / "part-00000.parquet", "is a file", f"the run directory is {saved}"),
    ]:
        with pytest.raises(ElimError, match=message) as caught:
            open_run(path)
        assert hint in caught.value.hint


def test_an_unfinished_run_is_said(saved):
    (saved / "run.json").unlink()
    with pytest.raises(ElimError, match=r"holds an unfinished run: there is no run\.json"):
        open_run(saved)
    (saved / ".elimtool-old-x").mkdir()
    with pytest.raises(ElimError, match="in the middle of being replaced") as caught:
        open_run(saved)
    assert ".elimtool-old-x" in caught.value.hint


def test_a_batch_that_is_not_done_is_never_told_to_start_over(saved):
    (saved / "run.json").unlink()
    (saved / ".batch").mkdir()
    with pytest.raises(ElimError, match=r"holds an unfinished batch: there is no run\.json") as caught:
        open_run(saved)
    assert f"elimtool run status {saved}" in caught.value.hint
    assert "overwrite" not in caught.value.hint


@pytest.mark.parametrize("contents", [b"", b"{", b"\xff\xfe", b"[]", b'{"schema_version": "1"}'])
def test_a_damaged_manifest_is_named(saved, contents):
    (saved / "run.json").write_bytes(contents)
    with pytest.raises(ElimError, match=r"run\.json"):
        open_run(saved)


def test_an_unknown_table_names_the_nearest(saved, manifest):
    with pytest.raises(ElimError, match="there is no table 'lense'") as caught:
        open_run(saved).table("lense")
    assert "did you mean 'lens'" in caught.value.hint
    with pytest.raises(ElimError, match="has no table 'lens'") as caught:
        Run.from_tables(manifest, {"survival": TABLES["survival"].from_rows([])}).table("lens")
    assert caught.value.hint == "it has: survival"


@pytest.mark.parametrize("contents", [b"", b"no parquet", None])
def test_an_unreadable_part_is_named(saved, contents):
    part = saved / "lens" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-20] if contents is None else contents)
    with pytest.raises(ElimError, match=r"cannot read .*lens.part-00000\.parquet"):
        open_run(saved).table("lens")
    assert len(open_run(saved).table("survival")) == 4


def test_a_lost_part_is_noticed(tmp_path, manifest):
    from elimtool.run.writer import RunWriter

    with RunWriter(tmp_path / "run", manifest) as writer:
        for index in (0, 1):
            writer.write_part("lens", index, TABLES["lens"].from_rows(awkward_rows("lens")))
        writer.finish()
    (tmp_path / "run" / "lens" / "part-00001.parquet").unlink()
    with pytest.raises(ElimError, match=r"has 4 rows, run\.json counted 8"):
        open_run(tmp_path / "run").table("lens")
    (tmp_path / "run" / "lens" / "part-00000.parquet").unlink()
    with pytest.raises(ElimError, match="has lost its table 'lens'"):
        open_run(tmp_path / "run").table("lens")


def test_parts_of_two_kinds_are_refused(saved):
    other = (saved / "survival" / "part-00000.parquet").read_bytes()
    (saved / "lens" / "part-00001.parquet").write_bytes(other)
    with pytest.raises(ElimError, match=r"part-00001\.parquet has other columns"):
        open_run(saved).arrow("lens")


@pytest.mark.parametrize("name", ["lens", "prompts", "survival"])
def test_a_column_removed_or_retyped_is_named(name, saved):
    """Whatever column it is, nullable or not: nothing that a part was written with may be gone."""
    part = saved / name / "part-00000.parquet"
    whole = pq.read_table(part)
    for column in TABLES[name].columns:
        pq.write_table(whole.drop_columns([column.name]), part)
        with pytest.raises(ElimError, match=f"{name} has lost its column '{column.name}'"):
            open_run(saved).arrow(name)
        index = whole.schema.get_field_index(column.name)
        other = pa.array([b""] * len(whole))
        pq.write_table(whole.set_column(index, pa.field(column.name, other.type), other), part)
        with pytest.raises(ElimError, match=f"{name}: column '{column.name}' is binary, not "):
            open_run(saved).arrow(name)
        pq.write_table(whole.append_column(whole.schema.field(index), whole.column(index)), part)
        with pytest.raises(ElimError, match=f"{name} has the column '{column.name}' more than once"):
            open_run(saved).arrow(name)


def test_reading_a_run_imports_no_torch(saved):
    program = (
        "import sys; from elimtool.run.reader import open_run; before = set(sys.modules);"
        f"assert 'pandas' not in before; open_run({str(saved)!r}).table('lens');"
        "print(sorted({'torch', 'transformers', 'transformer_lens'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
