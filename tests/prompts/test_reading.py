"""Good prompt files: every format and compression gives the same records, as a stream."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elimtool.errors import ElimError
from elimtool.prompts.design import Design
from elimtool.prompts.file import PromptFile
from elimtool.prompts.prompt import Message, Prompt, SpanRequest

ROWS: list[dict[str, Any]] = [
    {"prompt": 'Dr. A said, "no"\nand left', "targets": ["x", "y"], "group": "g", "meta": {"k": 1}},
    {
        "prompt": "Ein Gerüst — 日本",
        "id": "two",
        "tags": ["a", "b"],
        "spans": {"s": "Gerüst"},
        "foils": ["z"],
        "template": "t",
        "tuple": "t/1",
        "filler": "x|y",
        "slots": {"tense": "past"},
        "answers": [["a", "A"], ["b"]],
        "role": "neutral",
    },
]
PROMPTS = [
    Prompt(text=ROWS[0]["prompt"], targets=("x", "y"), group="g", meta={"k": 1}),
    Prompt(
        text=ROWS[1]["prompt"],
        id="two",
        tags=("a", "b"),
        targets=("a", "A", "b"),  # without targets of its own, its right answers are asked for
        foils=("z",),
        spans=(SpanRequest("s", text="Gerüst"),),
        design=Design("t", "t/1", "x|y", {"tense": "past"}, (("a", "A"), ("b",)), "neutral"),
    ),
]


def jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")


def csv(path: Path) -> None:
    import csv as module

    names = list(dict.fromkeys(name for row in ROWS for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = module.DictWriter(file, names, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        for row in ROWS:
            writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})


def parquet(path: Path) -> None:
    names = sorted({name for row in ROWS for name in row} - {"meta"})
    table = pa.Table.from_pylist([{n: row.get(n) for n in names} for row in ROWS])
    meta = pa.array([row.get("meta") for row in ROWS], pa.map_(pa.string(), pa.int64()))
    pq.write_table(table.append_column("meta", meta), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.jsonl", jsonl), ("a.ndjson", jsonl), ("a.csv", csv), ("a.tsv", csv), ("a.parquet", parquet)],
)
def test_every_format_gives_the_same_prompts(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    with PromptFile(tmp_path / name) as file:
        assert [record.prompt for record in file.records()] == PROMPTS
        assert [record.prompt for record in file.records()] == PROMPTS


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_compression_is_told_by_the_content(suffix: str, tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl")
    plain = (tmp_path / "a.jsonl").read_bytes()
    gzip_path, zstd_path = tmp_path / f"b.jsonl{suffix}", tmp_path / f"c.jsonl{suffix}"
    gzip_path.write_bytes(gzip.compress(plain))
    zstd_path.write_bytes(pa.compress(plain, codec="zstd", asbytes=True) * 2)  # two frames
    assert [record.prompt for record in PromptFile(gzip_path).records()] == PROMPTS
    assert [record.prompt for record in PromptFile(zstd_path).records()] == PROMPTS * 2


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n   \nfour \nfive")
    records = list(PromptFile(path).records())
    assert [record.line for record in records] == [1, 4, 5]
    assert [record.text for record in records] == ["one", "four ", "five"]
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfprompt\r\n"two\r\nlines"\r\n\r\nfive\r\n')
    assert [(r.line, r.text) for r in PromptFile(path).records()] == [(2, "two\r\nlines"), (5, "five")]


def test_standard_input_is_read_as_often_as_a_file() -> None:
    with PromptFile("-", stdin=io.BytesIO(b'{"prompt": "a"}\n{"prompt": 1}\n')) as file:
        assert file.format == "jsonl"
        assert [record.line for record in file.records()] == [1, 2]
        assert "standard input:2: 'prompt' is a number" in str(list(file.records())[1].prompt)
        spooled = file.path
        assert len(file.sha256()) == 64
    assert not spooled.exists()
    with pytest.raises(ElimError, match="cannot tell the format of standard input"):
        PromptFile("-", stdin=io.BytesIO(b"a\n"))
    with pytest.raises(ElimError, match="standard input is empty"):
        PromptFile("-", stdin=io.BytesIO(b""))
    with PromptFile("-", "text", stdin=io.BytesIO(b"{a}\n")) as file:
        assert [record.text for record in file.records()] == ["{a}"]


def test_chats_ids_and_single_targets(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]
    path.write_text(
        json.dumps({"messages": turns, "id": 17, "target": "This", "group": None, "meta": [1]}) + "\n"
        + json.dumps({"messages": turns, "spans": {"r": [0, 2]}}) + "\n"
        + json.dumps({"messages": turns}) + "\n"
        + json.dumps({"prompt": "a"}) + "\n"
        + json.dumps({"prompt": "b", "id": "ca978112ca1bbdca"}) + "\n"
    )  # fmt: skip
    first, second, third, text, named = PromptFile(path).records()
    messages = (Message("system", "Be brief."), Message("user", "Which?"))
    assert first.prompt == Prompt(messages=messages, id="17", targets=("This",), meta=[1])
    assert second.prompt == Prompt(messages=messages, spans=(SpanRequest("r", start=0, end=2),))
    assert first.key != second.key == third.key
    assert text.key == named.key  # the default id is a hash of the text


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        for number in range(1_000):
            file.write(json.dumps({"prompt": f"prompt {number} " + "x" * 2_000}) + "\n")
    next(iter(PromptFile(path).records()))  # what is loaded once is not counted
    tracemalloc.start()
    try:
        assert sum(1 for _ in PromptFile(path).records()) == 1_000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
