"""Bad prompt files: what each is told, and whether the file or the one record is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elimtool.errors import ElimError
from elimtool.prompts.file import PromptFile
from elimtool.prompts.record import Record

GOOD = b'{"prompt": "fine"}\n'

FILES = {
    "empty": ("a.jsonl", b"", "a.jsonl is empty"),
    "utf-16": ("a.txt", "the text".encode("utf-16"), "a.txt is UTF-16, not UTF-8"),
    "binary": ("a.jsonl", b"\x89PNG\0\0\0", "not text"),
    "one list": ("a.json", b'[{"prompt": "a"}]', "one JSON list, not one object a line"),
    "truncated gzip": ("a.jsonl.gz", gzip.compress(GOOD * 9)[:-9], "gzip stream is damaged or ends early"),
    "truncated zstd": (
        "a.jsonl.zst",
        pa.compress(GOOD * 9000, codec="zstd", asbytes=True)[:-9],
        "zstd stream is damaged or ends early",
    ),
    "csv without the column": ("a.csv", b"text,id\nhello,1\n", "there is no column 'prompt' or 'messages'"),
    "csv with a misspelt column": ("a.csv", b"prompt,taget\nhello,a\n", "did you mean 'target'"),
    "csv with a column twice": ("a.csv", b"prompt,id,id\nhello,1,2\n", "the column 'id' comes twice"),
    "no format": ("prompts", b"hello\n", "say which with `format`: jsonl"),
    "no parquet": ("a.parquet", b"hello\n", "is not a Parquet file"),
    "damaged parquet": ("a.parquet", b"PAR1hello", "cannot read on after row 0"),
}

RECORDS = {
    "no json": ("a.jsonl", b"prompt: hello\n", "a.jsonl:1: not valid JSON"),
    "no object": ("a.jsonl", GOOD + b"7\n", "a.jsonl:2: the line is JSON, but not an object"),
    "no prompt": ("a.jsonl", b'{"id": "a"}\n', "neither 'prompt' nor 'messages'"),
    "misspelt key": ("a.jsonl", b'{"prompt": "a", "tagets": []}\n', "did you mean 'targets'"),
    "key twice": ("a.jsonl", b'{"prompt": "a", "prompt": "b"}\n', "the key 'prompt' is given twice"),
    "null target": ("a.jsonl", b'{"prompt": "a", "target": null}\n', "'target' is null"),
    "null among targets": ("a.jsonl", b'{"prompt": "a", "targets": [null]}\n', "'targets[0]' is null"),
    "target and targets": (
        "a.jsonl",
        b'{"prompt": "a", "target": "b", "targets": ["c"]}\n',
        "both 'target' and 'targets'",
    ),
    "targets no list": ("a.jsonl", b'{"prompt": "a", "targets": "b"}\n', 'give a list, such as ["b"]'),
    "prompt a number": ("a.jsonl", b'{"prompt": 7}\n', "'prompt' is a number, not a string"),
    "empty prompt": ("a.jsonl", b'{"prompt": ""}\n', "the prompt is empty"),
    "lone surrogate": ("a.jsonl", b'{"prompt": "a\\ud83d"}\n', "lone surrogate at character 1"),
    "message without role": ("a.jsonl", b'{"messages": [{"content": "a"}]}\n', "not a role and a content"),
    "span of numbers": ("a.jsonl", b'{"prompt": "a", "spans": {"s": [1, "b"]}}\n', "neither a text nor"),
    "unknown role": ("a.jsonl", b'{"prompt": "a", "role": "god"}\n', "did you mean 'good'"),
    "slots no mapping": ("a.jsonl", b'{"prompt": "a", "slots": ["x"]}\n', 'give {"tense": "past"}'),
    "answers no list": ("a.jsonl", b'{"prompt": "a", "answers": "x"}\n', 'give ["Paris"]'),
    "alias no text": ("a.jsonl", b'{"prompt": "a", "answers": [["x", 7]]}\n', "'answers[0][1]' is a number"),
    "NaN": ("a.jsonl", b'{"prompt": "a", "meta": NaN}\n', "NaN is not JSON"),
    "nested too deeply": ("a.jsonl", b'{"prompt": ' + b"[" * 200000 + b"\n", "nested too deeply"),
    "mixed encodings": ("a.txt", b"fine\ncaf\xe9\n", "a.txt:2: not UTF-8: byte 0xe9 at byte 4 of the line"),
    "10 MB line": (
        "a.txt",
        b"fine\n" + b"x" * 10_000_000 + b"\nfine\n",
        "a.txt:2: the line is longer than 8 MiB",
    ),
    "csv with too many cells": (
        "a.csv",
        b"prompt\nfine\na,b\n",
        "a.csv:3: the row has 2 cells, the header 1",
    ),
    "csv not UTF-8": ("a.csv", b"prompt\ncaf\xe9\n", "a.csv:2: 'prompt' is not valid Unicode"),
    "csv with bad json": ("a.csv", b"prompt,spans\na,{\n", "column 'spans' is not valid JSON"),
    "csv with deep json": ("a.csv", b'prompt,targets\na,"' + b"[" * 200000 + b'"\n', "nested too deeply"),
    "csv with NaN": ("a.csv", b'prompt,meta\na,"{""x"": NaN}"\n', "NaN is not JSON"),
    "number past all floats": ("a.jsonl", b'{"prompt": "a", "meta": {"x": 1e999}}\n', "NaN or infinity"),
    "csv open quote": ("a.csv", b'prompt\nfine\n"open\n', "a.csv:3: not valid CSV"),
}


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", FILES)
def test_files_that_cannot_be_read(case: str, tmp_path: Path) -> None:
    name, content, message = FILES[case]
    with pytest.raises(ElimError) as refused:
        list(PromptFile(write(tmp_path, name, content)).records())
    assert message in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.parametrize("case", RECORDS)
def test_records_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    name, content, message = RECORDS[case]
    records = list(PromptFile(write(tmp_path, name, content)).records())
    bad = [one for one in records if isinstance(one.prompt, ElimError)]
    assert len(bad) == 1
    assert message in str(bad[0].prompt)
    fine = [one for one in records if not isinstance(one.prompt, ElimError)]
    assert len(fine) == content.count(b"fine")


def test_parquet_columns_have_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(ElimError, match="column 'prompt' is int64, not string"):
        list(PromptFile(tmp_path / "a.parquet").records())
    pq.write_table(pa.table({"prompt": ["fine", None], "targets": [["a"], None]}), tmp_path / "a.parquet")
    fine, null = PromptFile(tmp_path / "a.parquet").records()
    assert fine.prompt.targets == ("a",)  # type: ignore[union-attr]
    assert "row 2: the record has neither 'prompt'" in str(null.prompt)


def test_parquet_strings_that_are_no_text_and_numbers_that_are_none(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"caf\xe9", b"fine"])
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"prompt": text, "meta": [1.0, 1.0, float("nan")]}), tmp_path / "a.parquet")
    fine, encoded, number = PromptFile(tmp_path / "a.parquet").records()
    assert fine.prompt.text == "fine"  # type: ignore[union-attr]
    assert "a.parquet: row 2: not UTF-8" in str(encoded.prompt)
    assert "row 3: 'meta' holds NaN" in str(number.prompt)


def test_an_unusable_record_keeps_what_could_be_read(tmp_path: Path) -> None:
    line = json.dumps({"prompt": "a text", "id": "mine", "targets": 3})
    (record,) = PromptFile(write(tmp_path, "a.jsonl", line.encode())).records()
    assert isinstance(record, Record)
    assert (record.line, record.prompt_id, record.text) == (1, "mine", "a text")
    (nameless,) = PromptFile(write(tmp_path, "b.jsonl", b"{")).records()
    assert nameless.prompt_id == "<line 1>"


def test_missing_files_and_wrong_formats(tmp_path: Path) -> None:
    with pytest.raises(ElimError, match="No such file"):
        PromptFile(tmp_path / "none.jsonl")
    with pytest.raises(ElimError, match="Is a directory"):
        PromptFile(tmp_path)
    with pytest.raises(ElimError, match="did you mean 'jsonl'"):
        PromptFile(write(tmp_path, "a", GOOD), "json")
