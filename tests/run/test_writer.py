"""Parts are whole or absent and the same bytes each time; an old run is never lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from elimtool.errors import ElimError
from elimtool.run.reader import open_run
from elimtool.run.schema import TABLES
from elimtool.run.writer import RunWriter

from .conftest import awkward_rows, files, make_manifest, write


def test_two_runs_of_the_same_data_are_the_same_bytes(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert set(files(tmp_path / "a")) == {"run.json"} | {
        f"{n}/part-0000{i}.parquet" for n in TABLES for i in (0, 1)
    }


def test_the_bytes_do_not_hang_on_chunks_slices_or_time(tmp_path, manifest):
    rows = awkward_rows("attention")
    table = TABLES["attention"]
    whole = table.from_rows(rows)
    chunks = pa.concat_tables([table.from_rows([row]) for row in rows])
    slices = table.from_rows([rows[1], *rows, rows[0]]).slice(1, len(rows))
    late = make_manifest(started="2027-01-01T00:00:00Z")
    made = [("a", whole, manifest), ("b", chunks, manifest), ("c", slices, manifest), ("d", whole, late)]
    contents = {RunWriter(tmp_path / n, m).write_part("attention", 0, t).read_bytes() for n, t, m in made}
    assert len(contents) == 1


def test_parts_carry_manifest_and_definitions(tmp_path, manifest):
    path = RunWriter(tmp_path / "run", manifest).write_part("lens", 3, TABLES["lens"].from_rows([]))
    assert path.name == "part-00003.parquet"
    metadata = pq.read_metadata(path).metadata
    assert json.loads(metadata[b"elimtool.model"]) == "tiny"
    assert json.loads(metadata[b"elimtool.fingerprint"]) == manifest.fingerprint
    assert not {b"elimtool.started", b"elimtool.finished", b"elimtool.counts"} & metadata.keys()
    field = pq.read_schema(path).field("rank")
    assert b"strictly larger" in field.metadata[b"description"]
    assert field.metadata[b"unit"] == b"rank"
    assert pq.read_metadata(path).to_dict()["num_rows"] == 0


def test_other_readers_need_no_help(tmp_path):
    write(tmp_path / "run")
    (tmp_path / "run" / "lens" / ".part-00002.parquet.0a.tmp").write_bytes(b"half a part")
    folder = tmp_path / "run" / "lens"
    assert ds.dataset(folder).to_table().num_rows == 4
    assert len(pd.read_parquet(folder)) == 4


def test_a_table_that_does_not_fit_is_a_defect(tmp_path, manifest):
    writer = RunWriter(tmp_path / "run", manifest)
    lens = TABLES["lens"].from_rows(awkward_rows("lens"))
    for name, index, table in [
        ("lens", 0, lens.drop_columns(["rank"])),
        ("lens", 0, lens.append_column("extra", lens.column("rank"))),
        ("attention", 0, lens),
        ("lenses", 0, lens),
        ("lens", -1, lens),
    ]:
        with pytest.raises(ValueError):
            writer.write_part(name, index, table)
    assert files(tmp_path / "run") == {}


def test_counts_are_rows_and_a_part_written_again_counts_once(tmp_path, manifest):
    with RunWriter(tmp_path / "run", manifest) as writer:
        for index in (0, 1, 1):
            writer.write_part("lens", index, TABLES["lens"].from_rows(awkward_rows("lens")))
        writer.write_part("survival", 0, TABLES["survival"].from_rows([]))
        done = writer.finish()
    assert done.counts == {"lens": 8, "survival": 0}
    assert done.finished is not None
    with pytest.raises(ValueError, match="finished: True"):
        writer.write_part("lens", 2, TABLES["lens"].from_rows([]))


def test_stopped_before_the_rename_nothing_is_visible(tmp_path, manifest, monkeypatch):
    writer = RunWriter(tmp_path / "run", manifest)
    lens = TABLES["lens"].from_rows(awkward_rows("lens"))
    seen = []

    def stop(source, destination):
        seen.append(Path(source).name)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        writer.write_part("lens", 0, lens)
    monkeypatch.undo()
    assert seen[0].startswith(".")
    assert files(tmp_path / "run") == {}
    writer.write_part("lens", 0, lens)
    writer.finish()
    assert open_run(tmp_path / "run").arrow("lens").num_rows == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_before_the_rename_no_part_is_visible(tmp_path):
    program = f"""
        import os, signal
        from tests.run.conftest import make_manifest
        from elimtool.run.schema import TABLES
        from elimtool.run.writer import RunWriter
        writer = RunWriter({str(tmp_path / "run")!r}, make_manifest())
        writer.write_part("lens", 0, TABLES["lens"].from_rows([]))
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        writer.write_part("lens", 1, TABLES["lens"].from_rows([]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "run" / "lens").iterdir())
    assert len(left) == 2
    assert left[0].startswith(".part-00001.parquet.")
    assert left[1] == "part-00000.parquet"
    assert ds.dataset(tmp_path / "run" / "lens").to_table().num_rows == 0
    with pytest.raises(ElimError, match="holds an unfinished run"):
        open_run(tmp_path / "run")
    write(tmp_path / "run", overwrite=True)
    assert not [name for name in files(tmp_path / "run") if name.endswith(".tmp")]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_error_and_leaves_no_scrap(tmp_path, manifest, monkeypatch, code):
    writer = RunWriter(tmp_path / "run", manifest)

    def full(_):
        raise OSError(code, os.strerror(code))

    (tmp_path / "run" / "lens").mkdir()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ElimError, match=r"no space left on the disk while writing .*part-0+\.parquet"
    ) as caught:
        writer.write_part("lens", 0, TABLES["lens"].from_rows([]))
    assert "free some space" in caught.value.hint
    assert files(tmp_path / "run") == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_systems_own_full_disk_is_recognised(tmp_path, manifest, monkeypatch):
    writer = RunWriter(tmp_path / "run", manifest)
    opened = Path.open

    def into_full(self, mode="r", *rest, **named):
        return opened(Path("/dev/full"), "wb") if mode == "xb" else opened(self, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", into_full)
    with pytest.raises(ElimError, match="no space left"):
        writer.write_part("lens", 0, TABLES["lens"].from_rows(awkward_rows("lens")))


def test_giving_up_removes_a_directory_made_for_nothing_and_keeps_finished_parts(tmp_path, manifest):
    with RunWriter(tmp_path / "nothing", manifest):
        pass
    assert not (tmp_path / "nothing").exists()
    with RunWriter(tmp_path / "some", manifest) as writer:
        writer.write_part("lens", 0, TABLES["lens"].from_rows([]))
    assert set(files(tmp_path / "some")) == {"lens/part-00000.parquet"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("moves", range(5))
def test_killed_while_a_run_is_replaced_the_old_one_is_whole_or_said_where(tmp_path, moves):
    write(tmp_path / "run", names=("lens", "attention"))
    before = files(tmp_path / "run")
    program = f"""
        import os, pathlib, signal
        from tests.run.conftest import write
        real, left = pathlib.Path.rename, [{moves}]
        def rename(*arguments):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*arguments)
        pathlib.Path.rename = rename
        write(pathlib.Path({str(tmp_path / "run")!r}), overwrite=True, names=("lens", "survival"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -signal.SIGKILL
    if moves:  # the manifest goes first
        with pytest.raises(ElimError, match="in the middle of being replaced") as refused:
            open_run(tmp_path / "run")
        assert "the earlier run is partly in" in refused.value.hint
    with pytest.raises(ElimError, match="already holds a run"):  # whoever would write puts it back
        write(tmp_path / "run")
    assert files(tmp_path / "run") == before
    write(tmp_path / "run", overwrite=True, names=("survival",))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.json", "survival"]
