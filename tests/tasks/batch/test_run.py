"""Runs over prompt files: order, resuming, error rows, memory, disk, early stops."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

import elimtool
from elimtool.analysis.batch import batch_results
from elimtool.engine.options import TraceOptions
from elimtool.errors import ElimError, Exit
from elimtool.metrics import METRICS
from elimtool.model.tokens import Tokenizer, Tokens
from elimtool.report.batch import batch_lines
from elimtool.report.remarks import run_notes
from elimtool.report.screen import Screen
from elimtool.run.selection import CHANGES, FITTED, GRAMMARS, HEADS, IF_NAMED, ON_REQUEST, TRACED, WALKS
from elimtool.tasks.batch import work
from elimtool.tasks.batch.merge import merge
from elimtool.tasks.batch.options import MostErrors, Slice
from elimtool.tasks.batch.state import State
from elimtool.tasks.batch.status import status
from tests.engine.test_engine import assert_same
from tests.tasks.batch.conftest import QUICK, Batch, files_of, write_prompts
from tests.watched import Watched


def test_batched_equals_single_and_comes_in_input_order(batch: Batch, llama: Any, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 10)
    everything = TraceOptions(heads=True, lens="raw", errors="row")
    records = [{**json.loads(line), "foils": ["is"]} for line in prompts.read_text().splitlines()]
    prompts.write_text("".join(json.dumps(record) + "\n" for record in records))
    standing = batch(prompts, tmp_path / "run", everything)
    assert (standing.prompts, standing.errors, standing.total) == (10, 0, 10)
    assert standing.padding < 0.1
    run = elimtool.open_run(tmp_path / "run")
    assert run.prompts["prompt_id"].tolist() == [f"p{number}" for number in range(10)]
    for number in (0, 9):
        line = records[number]
        prompt = elimtool.Prompt(text=line["prompt"], id=line["id"], targets=("of",), foils=("is",))
        alone = elimtool.trace(llama, prompt, options=everything)
        assert set(alone.tables) == set(run.tables)
        for name in alone.tables:
            whole = run.table(name)
            part = whole[whole["prompt_id"] == line["id"]].reset_index(drop=True)
            assert_same(part, alone.table(name), name)


def test_bad_records_are_rows(batch: Batch, tmp_path: Path) -> None:
    lines = ['{"prompt": "fine", "id": "a"}', "no json", json.dumps({"prompt": "x " * 300, "id": "long"})]
    lines += [
        '{"prompt": "b", "spans": {"s": "zz"}, "id": "span", "tags": ["t"]}',
        '{"prompt": 3, "id": "n"}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    standing = batch(path, tmp_path / "run")
    assert (standing.prompts, standing.errors) == (5, 4)
    rows = elimtool.open_run(tmp_path / "run").prompts.set_index("prompt_id")
    assert rows.index.tolist() == ["a", "<line 2>", "long", "span", "n"]
    assert rows["status"].tolist() == ["ok"] + ["error"] * 4
    assert "a.jsonl:2: not valid JSON" in rows.loc["<line 2>", "error_message"]
    assert "context is 128" in rows.loc["long", "error_message"]
    assert rows.loc["span", "tags"].tolist() == ["t"]
    assert set(elimtool.open_run(tmp_path / "run").table("lens")["prompt_id"]) == {"a"}


def test_what_does_not_fit_beside_a_prompt_costs_that_table_alone(
    batch: Batch, llama: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    texts = {"short": "of the", "filled": "x " * 63}  # of 128 tokens, the context
    path.write_text("".join(json.dumps({"prompt": text, "id": name}) + "\n" for name, text in texts.items()))
    asked = {"futures": 2, "future_steps": 3, "repeat": 2, "repeat_control": 2, "generate": 4}
    options = TraceOptions(samplers=("hf",), tables=("lens", "walk"), lens="raw", errors="row", **asked)
    assert batch(path, tmp_path / "run", options).errors == 0
    run = elimtool.open_run(tmp_path / "run")
    lacking = dict(zip(run.prompts["prompt_id"], run.prompts["left_out"], strict=True))
    assert not len(lacking["short"])
    whys = [one.partition(": ") for one in lacking["filled"]]
    assert {name: "context" in why for name, _, why in whys} == dict.fromkeys(
        ["walk", "survivors", "resonance"], True
    )
    for name in ("walk", "survivors", "survivor_sets", "resonance"):
        assert set(run.table(name)["prompt_id"]) == {"short"}, name
    assert set(run.table("lens")["prompt_id"]) == set(texts)
    found = batch_results(run)
    assert found["left_out"]["prompts"] == 1 and not found["first_errors"]
    lines = batch_lines(found, 0, Screen(80))
    assert "1 prompt lacks tables, in full in prompts.left_out:" in lines
    assert any(line.startswith("  filled: walk: ") for line in lines)
    assert "left out, resonance: " in " ".join(run_notes(run))
    with pytest.raises(ElimError, match="context"):
        elimtool.trace(llama, texts["filled"], options=options)


def break_passes(monkeypatch: pytest.MonkeyPatch, fault: Callable[[set[str]], None]) -> None:
    """Have a metric call ``fault`` with the ids of the prompts of each pass."""

    class Faulty(METRICS["lens"]):  # type: ignore[misc]
        def __init__(self, batch: Any, settings: Any) -> None:
            super().__init__(batch, settings)
            fault({one.prompt_id for one in batch.encoded})

    monkeypatch.setitem(METRICS, "lens", Faulty)


def test_a_failing_metric_and_short_memory_cost_only_their_prompt(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 16)
    batch(prompts, tmp_path / "whole")
    sizes: list[int] = []

    def flaky(ids: set[str]) -> None:
        sizes.append(len(ids))
        if len(ids) > 2 or "p3" in ids:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if "p5" in ids:
            raise KeyError("a metric's mistake")

    break_passes(monkeypatch, flaky)
    standing = batch(prompts, tmp_path / "run", shard_size=16)
    assert (standing.prompts, standing.errors) == (16, 2)
    assert 1 in sizes and max(sizes) > 2
    rows = elimtool.open_run(tmp_path / "run").prompts.set_index("prompt_id")
    assert rows.loc["p3", ["error_type", "error_message"]].tolist() == [
        "OutOfMemoryError",
        "CUDA out of memory",
    ]
    assert rows.loc["p5", "error_type"] == "KeyError"
    assert rows.loc["p5", "n_tokens"] > 0
    whole = elimtool.open_run(tmp_path / "whole").table("lens")
    whole = whole[~whole["prompt_id"].isin(["p3", "p5"])].reset_index(drop=True)
    assert_same(elimtool.open_run(tmp_path / "run").table("lens"), whole, "lens")


def test_a_defect_is_told_once_and_counted(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 16)

    def broken(ids: set[str]) -> None:
        if ids & {"p3", "p5", "p12"}:
            raise KeyError("a metric's mistake")
        if "p9" in ids:
            raise ElimError("of the prompt")
        if "p10" in ids:
            raise MemoryError

    break_passes(monkeypatch, broken)
    standing = batch(prompts, tmp_path / "run")
    assert standing.errors == 5
    ((kind, count),) = standing.summed("defects").items()
    assert kind.startswith("KeyError at tests/tasks/batch/test_run.py:")
    assert count == 3
    (said,) = [one.getMessage() for one in caplog.records if one.name == "elimtool.tasks.batch.run"]
    assert "a defect of elimtool" in said
    assert (
        "Traceback (most recent call last)" in said and "in broken" in said and "a metric's mistake" in said
    )
    assert batch(prompts, tmp_path / "run").summed("defects") == {kind: 3}  # markers keep it


def test_a_failure_of_prompts_together_alone_is_told(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 8, longest=1)

    def broken(ids: set[str]) -> None:
        if len(ids) > 1:
            raise IndexError("padding")

    break_passes(monkeypatch, broken)
    standing = batch(prompts, tmp_path / "run")
    assert standing.errors == 0
    assert sum(standing.summed("defects").values()) >= 1
    assert "IndexError: padding" in caplog.text


class Unable(Tokenizer):
    """A tokenizer that fails at one text."""

    def encode(self, text: str, *, special: bool = True) -> Tokens:
        if text.startswith("2 "):
            raise ValueError("a tokenizer's mistake")
        return super().encode(text, special=special)


def test_tokenizers_that_fail_at_a_text_are_told(
    batch: Batch, llama: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 4)
    model = Watched.of(llama)
    model.tokenizer = Unable(llama.tokenizer.backend, llama.tokenizer.n_ids)
    standing = batch(prompts, tmp_path / "run", model=model)
    assert (standing.errors, sum(standing.summed("defects").values())) == (1, 1)
    assert "a tokenizer's mistake" in caplog.text


def test_a_slice_of_deduplicated_shards_counts_what_it_has(batch: Batch, tmp_path: Path) -> None:
    texts = ["same"] * 4 + [str(number) for number in range(6)]
    path = tmp_path / "a.txt"
    path.write_text("\n".join(texts))
    for index, count in enumerate((5, 2)):
        out = tmp_path / str(index)
        standing = batch(path, out, dedupe=True, shard_size=2, slice=Slice(index, 2))
        assert (standing.prompts, standing.total, status(out)["total"]) == (count, count, count)


class Stop(BaseException):
    pass


def stop_at(monkeypatch: pytest.MonkeyPatch, shard: int, table: str, error: BaseException) -> None:
    """Let a run end while it writes some part of some shard."""
    real = work.write_part

    def write(folder: Path, manifest: Any, name: str, index: int, rows: Any) -> Path:
        if (index, name) == (shard, table):
            raise error
        return real(folder, manifest, name, index, rows)

    monkeypatch.setattr(work, "write_part", write)


def test_an_interrupted_run_goes_on_and_ends_the_same(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 20)
    batch(prompts, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 1, "survival", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            batch(prompts, tmp_path / "run")
    found = status(tmp_path / "run")
    assert (found["state"], found["prompts"], found["total"]) == ("interrupted", 8, 20)
    killed = [
        tmp_path / "run" / name
        for name in ("lens/.part-00001.parquet.1a2b.tmp", ".batch/.shard-00001.json.1a2b.tmp")
    ]
    for path in killed:  # as SIGKILL leaves them
        path.touch()
    with pytest.raises(ElimError, match="unfinished"):
        elimtool.open_run(tmp_path / "run")
    standing = batch(prompts, tmp_path / "run")
    assert (standing.prompts, standing.resumed) == (20, 8)
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")
    assert status(tmp_path / "run")["state"] == "finished"
    again = batch(prompts, tmp_path / "run")
    assert again.resumed == again.prompts == 20


def test_a_run_with_other_inputs_or_options_is_refused(batch: Batch, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 4)
    batch(prompts, tmp_path / "run")
    other = TraceOptions(**{**{n: getattr(QUICK, n) for n in QUICK.__slots__}, "position": "all"})
    with pytest.raises(ElimError, match=r'other position \("last", now "all"\)'):
        batch(prompts, tmp_path / "run", other)
    with pytest.raises(ElimError, match=r"other shard_size \(8, now 4\)"):
        batch(prompts, tmp_path / "run", shard_size=4)
    with pytest.raises(ElimError, match=r'other `shard` \("0/1", now "1/2"\)'):
        batch(prompts, tmp_path / "run", slice=Slice(1, 2))
    write_prompts(tmp_path / "a.jsonl", 5)
    with pytest.raises(ElimError, match="begun with other prompts"):
        batch(prompts, tmp_path / "run")
    assert batch(prompts, tmp_path / "run", overwrite=True).prompts == 5


def test_a_directory_of_something_else_is_refused(batch: Batch, llama: Any, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 2)
    elimtool.trace(llama, "a").save(tmp_path / "trace")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    for name, message in (
        ("trace", "holds a run that elimtool batch did not write"),
        ("mine", "it holds 'letter.txt'"),
        ("a.jsonl", "is a file"),
        ("a.jsonl/run", "Not a directory"),
    ):
        with pytest.raises(ElimError, match=message):
            batch(prompts, tmp_path / name)
    assert batch(prompts, tmp_path / "trace", overwrite=True).prompts == 2
    assert batch(prompts, tmp_path / "new" / "folder" / "run").prompts == 2


def test_a_lock_that_cannot_be_written_is_no_other_process(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 2)
    batch(prompts, tmp_path / "run")
    state = State(tmp_path / "run")
    with state.locked():
        assert state.is_locked()
    assert not state.is_locked()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    (tmp_path / "run" / "run.json").unlink()
    for act in (lambda: status(tmp_path / "run"), lambda: batch(prompts, tmp_path / "run")):
        with pytest.raises(ElimError, match=r"cannot write .*lock: Permission denied"):
            act()


def test_a_full_disk_is_one_message_and_the_run_goes_on_later(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 20)
    batch(prompts, tmp_path / "whole")
    real, left = os.fsync, [12]

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ElimError, match="no space left on the disk while writing") as refused:
            batch(prompts, tmp_path / "run")
    assert "make space, then run the same command again" in refused.value.hint
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert batch(prompts, tmp_path / "run").prompts == 20
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")


def test_too_many_errors_stop_the_run(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("bad\n" * 3 + "".join(f'{{"prompt": "{n}"}}\n' for n in range(20)))
    with pytest.raises(ElimError, match="3 of 8 prompts failed") as stopped:
        batch(path, tmp_path / "run", max_errors=MostErrors(number=2))
    assert stopped.value.exit_code == Exit.PARTIAL
    with pytest.raises(ElimError, match="3 of 8 prompts failed"):
        batch(path, tmp_path / "other", max_errors=MostErrors(share=0.3))
    assert batch(path, tmp_path / "run", max_errors=MostErrors(number=3)).prompts == 23


def test_slices_join_to_the_run_in_one_piece(batch: Batch, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 30)
    batch(prompts, tmp_path / "whole")
    parts = [tmp_path / f"part{index}" for index in range(3)]
    counts = [batch(prompts, part, slice=Slice(index, 3)) for index, part in enumerate(parts)]
    assert [standing.total for standing in counts] == [standing.prompts for standing in counts]
    with pytest.raises(ElimError, match="give each of 0/3 to 2/3 once"):
        merge(parts[:2], tmp_path / "run")
    assert merge(parts[::-1], tmp_path / "run") == 30
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")
    whole, run = elimtool.open_run(tmp_path / "whole"), elimtool.open_run(tmp_path / "run")
    assert run.manifest.counts == whole.manifest.counts
    assert run.prompts["prompt_id"].tolist() == [f"p{number}" for number in range(30)]


def test_every_table_is_there_even_where_a_shard_has_no_row_of_it(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("bad\n" * 2)
    standing = batch(path, tmp_path / "run", TraceOptions(heads=False, errors="row"))
    assert standing.errors == 2
    run = elimtool.open_run(tmp_path / "run")
    assert (
        set(run.tables)
        == set(TRACED) - HEADS - WALKS - GRAMMARS - FITTED - CHANGES - IF_NAMED - ON_REQUEST.keys()
    )
    assert len(run.table("lens")) == 0


def test_walks_of_a_batch_are_those_of_a_trace(batch: Batch, llama: Any, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 3)
    options = TraceOptions(tables=("walk", "walk_stages"), generate=3, seed=5, errors="row")
    batch(prompts, tmp_path / "run", options)
    line = json.loads(prompts.read_text().splitlines()[1])
    alone = elimtool.trace(
        llama, elimtool.Prompt(text=line["prompt"], id="p1", targets=("of",)), options=options
    )
    walk = elimtool.open_run(tmp_path / "run").table("walk")
    assert_same(walk[walk["prompt_id"] == "p1"].reset_index(drop=True), alone.table("walk"), "walk")
