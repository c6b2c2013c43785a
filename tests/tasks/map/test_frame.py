"""The frame of maps: parts and their tables, corpora, probes, and going on where a map was stopped."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool.analysis.map.api import FOUND, find_map
from elimtool.errors import ElimError
from elimtool.run.analysis import Analysis
from elimtool.run.tables.findings.map import PART_TABLES
from elimtool.tasks.batch.local import LocalEngine
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.run import run
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.options import PARTS as NAMES
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.parts import PARTS
from elimtool.tasks.map.units import HALF, MADE_FOR, MapSource, Units, usable_ids
from elimtool.tasks.map.work import MapWorker
from tests.tasks.batch.conftest import files_of
from tests.tasks.map.conftest import write_corpus


def test_every_part_has_tables_and_findings() -> None:
    assert tuple(PARTS) == tuple(FOUND) == tuple(PART_TABLES) == NAMES
    read = {kind: {name for name, part in PARTS.items() if kind in part.needs} for kind in MADE_FOR}
    assert all(read[kind] == {part} if part else len(read[kind]) > 0 for kind, part in MADE_FOR.items())


def test_a_map_is_kept_beside_its_run(mapped: Analysis) -> None:
    assert mapped.path is None  # as it was made; what is read back is the same
    empty = {one.name for some in PART_TABLES.values() for one in some if not mapped.arrow(one.name).num_rows}
    assert empty == {"head_interactions"}  # random weights have no role whose heads to pair
    options: Any = mapped.manifest.options
    assert options["passages"] == 14 and options["tokens"] == 64 and options["map"] == list(NAMES)


QUICK = ("distances", "redundancy", "neurons")
"""Parts with arrays of units, of shards, and of several passages together."""


def work(
    llama: Any, corpus: Path, out: Path, stop: int | None = None, only: Any = QUICK, **options: Any
) -> None:
    """Measure a map, and stop after some shards."""
    how = BatchOptions(**{"shard_size": 6, **options})
    asked = MapOptions.of(only, tokens=64)

    def told(standing: Any) -> None:
        if stop is not None and len(standing.shards) >= stop:
            raise KeyboardInterrupt

    engine = LocalEngine(llama, asked, how, make=MapWorker)
    run(MapSource(llama, Corpus.of(corpus), asked), out, engine, how, report=told)


def test_a_map_that_was_stopped_goes_on_to_the_same_bytes(llama: Any, corpus: Path, tmp_path: Path) -> None:
    work(llama, corpus, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        work(llama, corpus, tmp_path / "stopped", stop=2)
    assert len(files_of(tmp_path / "stopped")) == 4  # two tables of two shards
    work(llama, corpus, tmp_path / "stopped")
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "stopped")
    whole, stopped = (find_map(elimtool.open_run(tmp_path / name)) for name in ("whole", "stopped"))
    assert all(whole.arrow(name).equals(stopped.arrow(name)) for name in whole.tables)


def test_a_map_does_not_depend_on_its_shards_and_passes(llama: Any, corpus: Path, tmp_path: Path) -> None:
    work(llama, corpus, tmp_path / "one", only=None, shard_size=99, batch_size=1)
    work(llama, corpus, tmp_path / "many", only=None, shard_size=4, batch_size=8)
    one, many = (find_map(elimtool.open_run(tmp_path / name)) for name in ("one", "many"))
    for name in one.tables:
        for column in one.arrow(name).schema.names:
            a, b = (found.table(name)[column].to_numpy() for found in (one, many))
            if a.dtype.kind == "f":
                np.testing.assert_allclose(a, b, atol=2e-5, err_msg=f"{name}.{column}")
            else:
                assert list(a) == list(b), f"{name}.{column}"


@pytest.mark.parametrize("error", [RuntimeError("no"), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_unit_that_fails_costs_only_itself(
    llama: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    measure = MapWorker._pass

    def failing(worker: MapWorker, units: Any) -> Any:
        if any(unit.index == 1 for unit in units):
            raise error
        return measure(worker, units)

    monkeypatch.setattr(MapWorker, "_pass", failing)
    work(llama, corpus, tmp_path / "map")
    rows = elimtool.open_run(tmp_path / "map").prompts
    lost = rows.loc[rows["status"] == "error", "prompt_id"]
    kinds = {name.rpartition("-")[0] for name in lost}
    assert kinds == {"repeats", "control", "text", "texts", "pair"} and len(lost) == len(kinds)
    found = find_map(elimtool.open_run(tmp_path / "map"))
    assert found.manifest.notes[0] == "5 passages or probes failed and are in no number"


def test_a_directory_keeps_to_its_map(llama: Any, corpus: Path, tmp_path: Path) -> None:
    work(llama, corpus, tmp_path / "map", shard_size=99)
    other = write_corpus(tmp_path / "other.jsonl", count=13)
    with pytest.raises(ElimError, match="was begun with other"):
        work(llama, other, tmp_path / "map", shard_size=99)


def test_repeats_repeat_and_the_control_does_not(llama: Any, corpus: Path) -> None:
    asked = MapOptions.of(tokens=64)
    made = Units(llama, 64)
    records = list(MapSource(llama, Corpus.of(corpus), asked).records())
    units = [made.of(record) for record in records]
    kinds = {kind: [one for one in units if one.kind == kind] for kind in ("repeats", "control", "text")}
    assert [len(some) for some in kinds.values()] == [16, 16, 14]
    known = set(usable_ids(llama))
    for repeats, control in zip(kinds["repeats"], kinds["control"], strict=True):
        ids, others = (one.encoded.token_ids[one.first :] for one in (repeats, control))
        assert ids[:HALF] == ids[HALF:] == others[:HALF] and len(set(others)) == 2 * HALF
        assert set(ids) | set(others) <= known and not known & llama.tokenizer.special_ids
    # words of a row may begin with one token in so small a vocabulary
    drawn = [one.encoded.token_ids for some in kinds.values() for one in some]
    assert len(set(drawn)) == len(
        drawn
    )  # words of a row may begin with the same token in so small a vocabulary
    assert {len(one.encoded.token_ids) for one in kinds["text"]} == {64}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "text.jsonl:2: not JSON"),
        ("[]", "text.jsonl:2: the line is list"),
        ('{"txt": "a"}', "text.jsonl:2: unknown key 'txt'"),
        ('{"title": "a"}', "text.jsonl:2: 'text' is missing"),
        ('{"text": 3}', "text.jsonl:2: 'text' is missing, empty or not a string"),
        ('{"text": "a", "source": 3}', "text.jsonl:2: 'source' is int"),
        ('{"text": "\\ud800"}', "text.jsonl:2: 'text' is not valid Unicode"),
    ],
)
def test_a_line_that_is_no_passage_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(f"{json.dumps({'text': 'one'})}\n{line}\n")
    with pytest.raises(ElimError, match=said) as raised:
        Corpus.of(path)
    assert raised.value.hint


def test_a_compressed_corpus_is_the_same(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "text.jsonl")
    packed = tmp_path / "text.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert Corpus.of(packed).sha256 == Corpus.of(path).sha256
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(ElimError, match="cannot read on after line"):
        Corpus.of(packed)


def test_what_cannot_be_mapped_is_refused(llama: Any, tiny: Any, tmp_path: Path) -> None:
    corpus = Corpus.of(write_corpus(tmp_path / "few.jsonl", count=11))
    with pytest.raises(ElimError, match="11 passages of 64 tokens or more, of 11; a map needs 12"):
        MapSource(llama, corpus, MapOptions.of(tokens=64))
    with pytest.raises(ElimError, match="reads at most 128 tokens"):
        MapSource(tiny, corpus, MapOptions.of(tokens=200))
    for wrong in ({"only": ["rolls"]}, {"only": []}, {"passages": 5}, {"tokens": 3}):
        with pytest.raises(ElimError):
            MapOptions.of(**wrong)
    with pytest.raises(ElimError, match="is not a map"):
        find_map(elimtool.trace(llama, "The capital of France is"))
