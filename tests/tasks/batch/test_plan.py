"""Shards, buckets and the search for ids that come twice."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from elimtool.errors import ElimError
from elimtool.prompts.file import PromptFile
from elimtool.prompts.prompt import Prompt
from elimtool.prompts.record import Record
from elimtool.tasks.batch.options import BatchOptions, MostErrors, RayOptions, Slice
from elimtool.tasks.batch.plan import count_distinct, shards
from elimtool.tasks.batch.scan import Scan


def records(count: int) -> Iterator[Record]:
    return (Record(line, Prompt(text=str(line)), f"id {line}") for line in range(1, count + 1))


def test_shards_are_cut_in_input_order() -> None:
    found = list(shards(records(10), 4))
    assert [shard.index for shard in found] == [0, 1, 2]
    assert [[one.line for one in shard.records] for shard in found] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_a_repeated_id_is_refused_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\none\nfour\ntwo\n")
    file = PromptFile(path)
    with pytest.raises(ElimError, match="lines 1 and 3 have the same id") as refused:
        Scan(file, dedupe=False)
    assert "`dedupe`" in refused.value.hint
    assert Scan(file, dedupe=True).total == 3
    kept = [[one.line for one in shard.records] for shard in shards(file.records(), 2, dedupe=True)]
    assert kept == [[1, 2], [4], []]


def test_a_large_file_is_looked_over_by_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {number}\n" for number in range(500)))
    scan = Scan(PromptFile(path), dedupe=False, at_once=0)
    assert scan.total is None
    scan.check(wait=None)
    assert scan.total == 500
    path.write_text("one\ntwo\none\n")
    scan = Scan(PromptFile(path), dedupe=False, at_once=0)
    with pytest.raises(ElimError, match="lines 1 and 3 have the same id"):
        scan.check(wait=None)
    Scan(PromptFile(path), dedupe=False, at_once=0).close()


def test_a_scan_that_is_killed_is_done_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{n}", "prompt": "a"}) + "\n" for n in range(500)))
    scan = Scan(PromptFile(path), dedupe=False, at_once=0)
    assert scan._process is not None
    scan._process.kill()
    scan.check(wait=None)
    assert scan.total == 500
    assert "the process that counts the prompts died" in caplog.text
    path.write_text(path.read_text() + json.dumps({"id": "p3", "prompt": "a"}) + "\n")
    scan = Scan(PromptFile(path), dedupe=False, at_once=0)
    assert scan._process is not None
    scan._process.kill()
    with pytest.raises(ElimError, match="lines 4 and 501 have the same id"):
        scan.check(wait=None)


def test_the_first_shard_does_not_wait_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "million.jsonl"
    with path.open("w") as file:
        block = "".join(json.dumps({"prompt": f"prompt number {n}"}) + "\n" for n in range(10_000))
        for _ in range(100):
            file.write(block)
    started = time.monotonic()
    scan = Scan(PromptFile(path), dedupe=False)
    try:
        first = next(shards(PromptFile(path).records(), 256))
        assert len(first.records) == 256
        assert time.monotonic() - started < 5
        with pytest.raises(ElimError, match="lines 1 and 10001 have the same id"):
            scan.check(wait=60)
    finally:
        scan.close()


def test_ids_and_shards_take_the_same_memory_for_more_records() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            assert count_distinct(records(count), "a") == count
            assert sum(len(shard.records) for shard in islice(shards(records(count), 256), count)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(10_000) < peak(2_000) * 1.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MostErrors.parse("many"), "or a share such as 5%, got 'many'"),
        (lambda: MostErrors.parse("101%"), "`max_errors` must be a number such as 20, or a share"),
        (lambda: Slice.parse("4/4"), "i from 0 to n - 1"),
        (lambda: Slice.parse("a"), "`shard` 'a'"),
        (lambda: BatchOptions(engine="rai"), "did you mean 'ray'"),
        (lambda: BatchOptions(shard_size=0), "`shard_size` must be at least 1, got 0"),
        (lambda: BatchOptions(batch_size=0), "`batch_size` must be at least 1, got 0"),
        (lambda: RayOptions(actors=0), "`actors` must be at least 1, got 0"),
        (lambda: RayOptions(cpus=0), "an actor needs a CPU or a GPU"),
        (lambda: RayOptions(attempts=0), "`attempts` must be at least 1, got 0"),
    ],
)
def test_options_that_cannot_be(make: object, message: str) -> None:
    with pytest.raises(ElimError) as refused:
        make()  # type: ignore[operator]
    assert message in str(refused.value)


def test_limits_of_errors() -> None:
    assert not MostErrors.parse(None).exceeded(10, 10)
    assert MostErrors.parse("2").exceeded(3, 100) and not MostErrors.parse("2").exceeded(2, 2)
    assert MostErrors.parse("5%").exceeded(6, 100) and not MostErrors.parse("5%").exceeded(5, 100)
