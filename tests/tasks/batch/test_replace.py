"""A run that is to be replaced stays until there is something new; damaged shards are found and done anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError
from elimtool.prompts.file import PromptFile
from elimtool.run.damage import refuse_damaged
from elimtool.tasks.batch.local import LocalEngine
from elimtool.tasks.batch.merge import merge
from elimtool.tasks.batch.options import BatchOptions, Slice
from elimtool.tasks.batch.place import Untouched
from elimtool.tasks.batch.run import run
from elimtool.tasks.batch.state import State
from elimtool.tasks.batch.status import status
from tests.tasks.batch.conftest import QUICK, Batch, files_of, write_prompts
from tests.tasks.batch.test_run import stop_at

OTHER = TraceOptions(tables=("lens",), samplers=("hf",), lens="raw", heads=False, errors="row")


def everything(directory: Path) -> dict[str, bytes]:
    """Every file but the lock, which a look at the run touches."""
    found = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


class NoModel(LocalEngine):
    """An engine whose model cannot be loaded."""

    def start(self, directory: Path) -> None:
        raise ElimError("there is no such model")


@pytest.fixture
def finished(batch: Batch, tmp_path: Path) -> Path:
    batch(write_prompts(tmp_path / "a.jsonl", 20), tmp_path / "run")
    return tmp_path / "run"


def test_what_is_refused_leaves_the_old_run(
    batch: Batch, llama: Any, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(finished)
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"prompt": "a"}\n' * 2)
    (tmp_path / "empty.jsonl").write_text("\n")
    for prompts in (twice, tmp_path / "empty.jsonl"):
        with pytest.raises(ElimError):
            batch(prompts, finished, overwrite=True)
        assert everything(finished) == before
    how = BatchOptions()
    with PromptFile(tmp_path / "a.jsonl") as file, pytest.raises(ElimError, match="no such model"):
        run(file, finished, NoModel(llama, QUICK, how), how, overwrite=True)
    assert everything(finished) == before
    for error, raised in ((KeyboardInterrupt(), Untouched), (ElimError("full"), ElimError)):
        with monkeypatch.context() as patch, pytest.raises(raised):
            stop_at(patch, 0, "lens", error)
            batch(tmp_path / "a.jsonl", finished, OTHER, overwrite=True)
        assert everything(finished) == before
    assert elimtool.open_run(finished).manifest.finished


def test_interrupted_after_a_shard_the_old_run_is_said_where(
    batch: Batch, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, prompts = files_of(finished), tmp_path / "a.jsonl"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 1, "lens", KeyboardInterrupt())
        batch(prompts, finished, OTHER, overwrite=True)
    found = status(finished)
    assert (found["state"], found["prompts"]) == ("interrupted", 8)
    assert files_of(Path(found["replaces"])) == before
    assert elimtool.open_run(found["replaces"]).manifest.finished
    with pytest.raises(ElimError) as unfinished:
        elimtool.open_run(finished)
    assert found["replaces"] in unfinished.value.hint
    assert batch(prompts, finished, OTHER).resumed == 8
    batch(prompts, tmp_path / "whole", OTHER)
    assert files_of(finished) == files_of(tmp_path / "whole")
    assert sorted(path.name for path in finished.iterdir()) == [".batch", "lens", "prompts", "run.json"]
    assert status(finished)["replaces"] is None


def test_a_run_that_another_process_works_on_is_not_replaced(
    batch: Batch, tmp_path: Path, finished: Path
) -> None:
    before = everything(finished)
    with State(finished).locked(), pytest.raises(ElimError, match="another process is at work"):
        batch(tmp_path / "a.jsonl", finished, overwrite=True)
    (finished / "lens" / "letter.txt").touch()
    with pytest.raises(ElimError, match="elimtool did not write"):
        batch(tmp_path / "a.jsonl", finished, overwrite=True)
    (finished / "lens" / "letter.txt").unlink()
    assert everything(finished) == before


def test_slices_are_joined_over_an_old_run_only_when_they_can_be(
    batch: Batch, tmp_path: Path, finished: Path
) -> None:
    parts = [tmp_path / f"part{index}" for index in range(2)]
    for index, part in enumerate(parts):
        batch(tmp_path / "a.jsonl", part, slice=Slice(index, 2))
    before = everything(finished)
    for wrong in (parts[:1], [parts[0], parts[0]]):
        with pytest.raises(ElimError):
            merge(wrong, finished, overwrite=True)
    assert everything(finished) == before
    assert merge(parts, finished, overwrite=True) == 20
    assert sorted(path.name for path in finished.iterdir())[:1] == [".batch"]
    (parts[1] / "lens" / "part-00001.parquet").unlink()
    with pytest.raises(ElimError, match=r"shard 1 is damaged: lens/part-00001.parquet is missing"):
        merge(parts, tmp_path / "joined")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def turn(path: Path) -> None:
    """Change one bit, far from the file's end."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "cut": (lambda run: cut(run / "lens" / "part-00001.parquet"), "lens/part-00001.parquet has "),
    "one bit": (lambda run: turn(run / "lens" / "part-00001.parquet"), "lens/part-00001.parquet was changed"),
    "part": (lambda run: (run / "survival" / "part-00001.parquet").unlink(), "part-00001.parquet is missing"),
    "empty": (lambda run: (run / "lens" / "part-00001.parquet").write_bytes(b""), "has 0 bytes"),
    "marker": (lambda run: cut(run / ".batch" / "shard-00001.json"), "shard-00001.json is damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_shard_is_said_and_done_anew(
    case: str, batch: Batch, tmp_path: Path, finished: Path
) -> None:
    before = files_of(finished)
    harm, message = DAMAGE[case]
    harm(finished)
    found = status(finished)
    assert found["state"] == "damaged"
    (line,) = found["damaged"]
    assert line.startswith("shard 1 is damaged: ") and message in line
    with pytest.raises(ElimError, match="shard 1 is damaged"):
        refuse_damaged(finished)
    standing = batch(tmp_path / "a.jsonl", finished)
    assert (standing.resumed, list(standing.damaged)) == (12, [1])
    assert files_of(finished) == before
    assert (status(finished)["state"], status(finished)["damaged"]) == ("finished", [])


def test_a_lost_manifest_marker_or_digest_is_no_loss(batch: Batch, tmp_path: Path, finished: Path) -> None:
    before = files_of(finished)
    for name in ("run.json", ".batch/shard-00002.json"):
        for harm in (cut, Path.unlink):
            harm(finished / name)
            assert status(finished)["state"] in ("damaged", "interrupted")
            assert batch(tmp_path / "a.jsonl", finished).prompts == 20
            assert status(finished)["state"] == "finished"
            assert files_of(finished) == before
    for path in (finished / ".batch").glob("shard-*.json"):  # as written by an earlier elimtool
        marker = json.loads(path.read_text())
        del marker["digest"]
        path.write_text(json.dumps(marker))
    assert status(finished)["state"] == "finished"
    assert batch(tmp_path / "a.jsonl", finished).resumed == 20


def test_status_before_the_plan_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "run" / ".batch").mkdir(parents=True)
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["prompts"]) == ("interrupted", 0)
    with State(tmp_path / "run").locked():
        assert status(tmp_path / "run")["state"] == "running"
