"""A used directory is refused before any work; a run that is replaced is never lost."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from elimtool.errors import ElimError
from elimtool.run.reader import Run, open_run
from elimtool.run.schema import TABLES
from elimtool.run.writer import RunWriter, check_directory

from .conftest import files, make_manifest, write


def test_a_used_directory_is_refused(tmp_path, manifest):
    write(tmp_path / "run")
    with pytest.raises(ElimError, match="already holds a run") as caught:
        RunWriter(tmp_path / "run", manifest)
    assert caught.value.hint == "choose another `directory` or pass `overwrite`"
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(ElimError, match="already holds an unfinished run"):
        RunWriter(tmp_path / "run", manifest)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_of_someone_else_is_refused(tmp_path, manifest, overwrite):
    notes = tmp_path / "mine"
    notes.mkdir()
    (notes / "notes.txt").write_text("x")
    with pytest.raises(ElimError, match=r"is not empty: it holds 'notes\.txt'"):
        RunWriter(notes, manifest, overwrite=overwrite)
    other = tmp_path / "other"
    other.mkdir()
    (other / "run.json").write_text('{"mine": true}')
    with pytest.raises(ElimError, match=r"is not empty: it holds 'run\.json'"):
        RunWriter(other, manifest, overwrite=overwrite)
    data = tmp_path / "data"
    (data / "prompts").mkdir(parents=True)
    (data / "prompts" / "capitals.jsonl").write_text("{}")
    with pytest.raises(ElimError, match=r"did not write .*capitals\.jsonl"):
        RunWriter(data, manifest, overwrite=overwrite)
    assert files(tmp_path) == {
        "mine/notes.txt": b"x",
        "other/run.json": b'{"mine": true}',
        "data/prompts/capitals.jsonl": b"{}",
    }


def test_a_file_in_the_way_a_missing_parent_and_an_empty_directory(tmp_path, manifest):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ElimError, match="is a file, not a directory"):
        RunWriter(tmp_path / "file", manifest)
    with pytest.raises(ElimError, match="Not a directory"):
        RunWriter(tmp_path / "file" / "run", manifest)
    check_directory(tmp_path / "no" / "such" / "run")
    with RunWriter(tmp_path / "no" / "such" / "run", manifest):
        assert (tmp_path / "no" / "such" / "run").is_dir()
    assert not (tmp_path / "no").exists(), "what was checked or given up leaves no folder behind"
    write(tmp_path / "no" / "such" / "run")
    assert open_run(tmp_path / "no" / "such" / "run").tables == tuple(TABLES)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ElimError):
        RunWriter(tmp_path / "dangling", manifest)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert open_run(tmp_path / "empty").tables == tuple(TABLES)


def test_no_permission_is_said_before_any_work(tmp_path, manifest, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(os, "mkdir", denied)
    for directory in (tmp_path / "new", tmp_path / "empty"):
        with pytest.raises(ElimError, match=f"cannot write {directory}: Permission denied") as caught:
            RunWriter(directory, manifest)
        assert "permissions" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_refused(tmp_path, manifest):
    (tmp_path / "locked").mkdir(mode=0o500)
    for directory in (tmp_path / "locked", tmp_path / "locked" / "run"):
        with pytest.raises(ElimError, match="Permission denied"):
            RunWriter(directory, manifest)


def test_overwrite_replaces_the_run_and_keeps_other_files(tmp_path):
    run = tmp_path / "run"
    write(run, model="old")
    (run / "notes.txt").write_text("mine")
    Run.from_tables(make_manifest(model="new"), {"lens": TABLES["lens"].from_rows([])}).save(
        run, overwrite=True
    )
    assert set(files(run)) == {"run.json", "lens/part-00000.parquet", "notes.txt"}
    assert open_run(run).manifest.model == "new"
    assert sorted(path.name for path in run.iterdir()) == ["lens", "notes.txt", "run.json"]


def test_overwrite_removes_tables_that_only_a_newer_elimtool_knows(tmp_path):
    run = tmp_path / "run"
    write(run)
    (run / "survival").rename(run / "omens")
    facts = json.loads((run / "run.json").read_text())
    facts["schema_version"] = 9
    facts["counts"]["omens"] = 4
    (run / "run.json").write_text(json.dumps(facts))
    write(run, overwrite=True)
    assert not (run / "omens").exists()


def test_overwrite_of_nothing_is_a_plain_run(tmp_path):
    write(tmp_path / "run", overwrite=True)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", overwrite=True)
    assert files(tmp_path / "run") == files(tmp_path / "empty")


def test_a_failure_midway_leaves_the_old_run_as_it_was(tmp_path):
    run = tmp_path / "run"
    write(run, model="old")
    before = files(run)
    with (
        pytest.raises(KeyboardInterrupt),
        RunWriter(run, make_manifest(model="new"), overwrite=True) as writer,
    ):
        writer.write_part("lens", 0, TABLES["lens"].from_rows([]))
        assert open_run(run).manifest.model == "old"
        raise KeyboardInterrupt
    assert files(run) == before
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_a_failure_at_any_step_of_the_swap_puts_the_old_run_back(tmp_path, monkeypatch, step, failure):
    run = tmp_path / "run"
    write(run, model="old", names=("lens", "survival"))
    before = files(run)
    rename, calls = Path.rename, iter(range(100))

    def failing(self, target):
        if next(calls) == step:
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((KeyboardInterrupt, ElimError)):
        write(run, overwrite=True, model="new", names=("prompts", "survival"))
    monkeypatch.undo()
    assert files(run) == before
    assert open_run(run).manifest.model == "old"


def test_a_full_disk_during_overwrite_leaves_the_old_run(tmp_path, monkeypatch):
    run = tmp_path / "run"
    write(run, model="old")
    before = files(run)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(ElimError, match="no space left"):
        write(run, overwrite=True, model="new")
    assert files(run) == before
