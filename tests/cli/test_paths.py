"""Files of a run can be passed on: they name what the user typed, not where it lay on the machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Command

CHECKS = """version: 1
model: {name: ./model}
prompts: p.jsonl
samplers: [llama.cpp]
lens: mine.lens
baseline: base.json
checks:
  - {id: a, metric: final_logprob, target: "of", baseline: true, atol: 0.05}
"""


def contents(path: Path) -> bytes:
    """What a file says: its bytes, and those that Parquet has compressed."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    return path.read_bytes() + json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False).encode()


@pytest.mark.slow
def test_no_file_names_a_place_on_the_machine(
    elimtool: Command, llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "in-here"
    (work / "home").mkdir(parents=True)
    shutil.copytree(llama_directory, work / "model")
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(work / "home"))
    Path("text.txt").write_text("The capital of France is Paris, and that of Spain is Madrid. " * 60)
    Path("c.yaml").write_text(CHECKS)
    Path("p.jsonl").write_text(
        '{"prompt": "The capital of", "id": "a"}\n{"prompt": "A token of the text", "id": "b"}\n'
    )
    Path("bad.jsonl").write_text('{"prompt": "x", "spans": {"s": "zz"}}\nno json\n{"prompt": "y"}\n')
    model = ["-m", "model"]
    for command, code in (
        (["lens", "fit", *model, "text.txt", "-o", "mine.lens", "--window", "40"], 0),
        (["lens", "fit", *model, "text.txt", "--window", "40"], 0),
        (["trace", "The capital of", *model, "-o", "one", "--save-activations", "kept"], 0),
        (["trace", "The capital of", *model, "-o", "two", "--lens", "mine.lens", "--patch", "kept"], 0),
        (["batch", "p.jsonl", *model, "-o", "three", "--lens", "mine.lens"], 0),
        (["batch", "bad.jsonl", *model, "-o", "four"], 6),
        (["check", "c.yaml", "--update", "-o", "five", "--junit", "five.xml"], 0),
        (["compare", "three", "one", "-o", "six"], 5),
        (["compare", "three", "three", "-o", "seven"], 0),
        (["report", "two", "-o", "two.html"], 0),
        (["report", "four", "-o", "four.html"], 0),
        (["report", "seven", "-o", "seven.html"], 0),
        (["report", "two", "--figure", "ranks", "--format", "svg", "-o", "two.svg"], 0),
    ):
        done = elimtool(*command)
        assert done.code == code, (command, done)
    written = [path for path in work.rglob("*") if path.is_file() and work / "model" not in path.parents]
    assert len(written) > 100
    for path in written:
        said = contents(path)
        for place in (work, tmp_path, Path(__file__).parents[2]):
            assert str(place).encode() not in said, (path, place)
