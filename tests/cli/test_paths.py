"""Files of a run can be passed on: they name what the user typed, not where it lay on the machine."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elimtool.model.store import cache_dir
from tests.cli.conftest import Command
from tests.model.tiny_gguf import write_gguf

CHECKS = """version: 1
model: {name: ./model}
prompts: p.jsonl
samplers: [llama.cpp]
lens: mine.lens
baseline: base.json
checks:
  - {id: a, metric: final_logprob, target: "of", baseline: true, atol: 0.05}
"""
CHAIN = "engine: mine\nstages:\n  - {stage: temperature, temperature: 0.5}\n"
TEMPLATE = "{{ tools | tojson }}{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}"
MODEL, PROMPT = ("-m", "model"), "The capital of"


def contents(path: Path) -> bytes:
    """What a file says: its bytes, and those that Parquet has compressed or encoded."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    table = pq.read_table(path)
    footer = pq.read_metadata(path).metadata or {}
    schema = base64.b64decode(footer.get(b"ARROW:schema", b""))
    values = json.dumps(table.to_pylist(), ensure_ascii=False).encode()
    return b"\n".join([path.read_bytes(), *footer.keys(), *footer.values(), schema, values])


def written(work: Path) -> list[Path]:
    """The files that commands wrote into a directory."""
    given = {"model", "lora", "text.txt", "tiny.gguf"}
    found = [path for path in work.rglob("*") if path.is_file()]
    return [path for path in found if not given & set(path.relative_to(work).parts)]


def assert_no_places(said: Iterable[tuple[Any, bytes]], *places: Path) -> None:
    for what, content in said:
        for place in places:
            assert str(place).encode() not in content, (what, place)


@pytest.fixture
def work(llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model, its home and its cache; the names of all three are like no other."""
    found = tmp_path / "in-here"
    (found / "home").mkdir(parents=True)
    shutil.copytree(llama_directory, found / "model")
    (found / "model" / "chat_template.jinja").write_text(TEMPLATE)
    monkeypatch.chdir(found)
    monkeypatch.setenv("HOME", str(found / "home"))
    Path("text.txt").write_text("The capital of France is Paris, and that of Spain is Madrid. " * 60)
    Path("c.yaml").write_text(CHECKS)
    Path("p.jsonl").write_text(
        '{"prompt": "The capital of", "id": "a"}\n{"prompt": "A token of the text", "id": "b"}\n'
    )
    Path("bad.jsonl").write_text('{"prompt": "x", "spans": {"s": "zz"}}\nno json\n{"prompt": "y"}\n')
    Path("chain.yaml").write_text(CHAIN)
    Path("tools.json").write_text('[{"name": "weather"}]')
    return found


@pytest.mark.slow
def test_no_file_names_a_place_on_the_machine(elimtool: Command, work: Path, tmp_path: Path) -> None:
    outputs: list[tuple[Any, bytes]] = []
    for command, code in (
        (["lens", "fit", *MODEL, "text.txt", "-o", "mine.lens", "--window", "40"], 0),
        (["lens", "fit", *MODEL, "text.txt", "--window", "40"], 0),
        (["trace", PROMPT, *MODEL, "-o", "one", "--save-activations", "kept"], 0),
        (["trace", PROMPT, *MODEL, "-o", "two", "--lens", "mine.lens", "--patch", "kept"], 0),
        (
            [
                "trace",
                PROMPT,
                *MODEL,
                "--chat",
                "--tools",
                "tools.json",
                "--samplers",
                "chain.yaml",
                "--json",
            ],
            0,
        ),
        (["batch", "p.jsonl", *MODEL, "-o", "three", "--lens", "mine.lens"], 0),
        (["batch", "bad.jsonl", *MODEL, "-o", "four"], 6),
        (["run", "status", "four", "--json"], 0),
        (["check", "c.yaml", "--update", "-o", "five", "--junit", "five.xml"], 0),
        (["check", "c.yaml", "--noise", "--json"], 0),
        (["check", "c.yaml", "--json", "--run", "five"], 0),
        (["compare", "three", "one", "-o", "six"], 5),
        (["compare", "three", "three", "-o", "seven"], 0),
        (["report", "two", "-o", "two.html"], 0),
        (["report", "four", "-o", "four.html"], 0),
        (["report", "seven", "-o", "seven.html"], 0),
        (["report", "two", "--figure", "ranks", "--format", "svg", "-o", "two.svg"], 0),
        (["locate", "4 capital", "--corrupt", "5 capital", "-t", "x", *MODEL, "-o", "eight"], 0),
        (["attribute", PROMPT, *MODEL, "--method", "leave-one-out", "-o", "nine", "-t", "x"], 0),
    ):
        done = elimtool(*command)
        assert done.code == code, (command, done)
        if "--json" in command:  # what is told on a terminal may say where a file is
            outputs.append((command, done.out.encode()))
    files = written(work)
    assert len(files) > 120
    assert {"mine.lens", "base.json", "base.noise.json", "five.xml"} <= {path.name for path in files}
    places = (work, tmp_path, Path(__file__).parents[2])
    assert_no_places([*outputs, *((path, contents(path)) for path in files)], *places)


@pytest.mark.slow
def test_nor_where_a_model_is_converted_or_an_adapter_merged(
    elimtool: Command, work: Path, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained("model"), config).save_pretrained("lora")
    where = json.loads(Path("lora/adapter_config.json").read_text())
    where["base_model_name_or_path"] = str(work / "model")  # as peft writes it, where it was trained so
    Path("lora/adapter_config.json").write_text(json.dumps(where))
    shutil.copytree("lora", "home/lora")
    write_gguf(work / "tiny.gguf")
    for command in (
        ["trace", PROMPT, *MODEL, "--adapter", "lora", "-o", "one"],
        ["trace", PROMPT, "-m", "lora", "--base", "./model", "-o", "two"],
        ["trace", PROMPT, "-m", "lora", "-o", "three"],
        ["trace", PROMPT, *MODEL, "--adapter", "~/lora@0.5", "-o", "four"],
        ["trace", PROMPT, "-m", "tiny.gguf", "-o", "five"],
        ["batch", "p.jsonl", "-m", "tiny.gguf", "-o", "six"],
        ["compare", *MODEL, "-m", "lora", "--prompt", PROMPT, "-o", "seven"],
        ["report", "one", "-o", "one.html"],
        ["report", "five", "-o", "five.html"],
        ["report", "seven", "-o", "seven.html"],
    ):
        done = elimtool(*command)
        assert done.code == 0, (command, done)
    files = written(work)
    assert len(files) > 80
    assert_no_places([(path, contents(path)) for path in files], work, tmp_path, Path(__file__).parents[2])


@pytest.mark.slow
@pytest.mark.smollm2
def test_nor_where_the_default_model_is_cached(
    elimtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELIMTOOL_CACHE")
    work = tmp_path / "in-here"
    work.mkdir()
    monkeypatch.chdir(work)
    Path("p.jsonl").write_text('{"prompt": "The capital of France is", "targets": ["Paris"]}\n')
    Path("c.yaml").write_text(
        "version: 1\nmodel: {name: smollm2}\nprompts: p.jsonl\nsamplers: [hf]\nbaseline: base.json\n"
        "checks:\n  - {id: a, metric: final_logprob, baseline: true}\n"
    )
    for command in (
        ["trace", "The capital of France is", "-t", "Paris", "-o", "one", "-m", "smollm2"],
        ["batch", "p.jsonl", "-o", "two", "-m", "smollm2"],
        ["check", "c.yaml", "--update", "-o", "three"],
        ["compare", "one", "two", "-o", "four"],
        ["report", "one", "-o", "one.html"],
    ):
        done = elimtool(*command)
        assert done.code == 0, (command, done)
    files = written(work)
    places = (tmp_path, cache_dir(), Path.home(), Path(__file__).parents[2])
    assert_no_places([(path, contents(path)) for path in files], *places)


def test_an_absolute_path_that_was_typed_stands_as_typed(
    elimtool: Command, work: Path, tmp_path: Path
) -> None:
    """Also shows that the tests above see a path wherever one can stand."""
    typed = str(work / "home" / ".." / "model")
    for command in (["trace", PROMPT, "-m", typed, "-o", "one"], ["report", "one", "-o", "one.html"]):
        done = elimtool(*command)
        assert done.code == 0, (command, done)
    files = written(work)
    found = {path: contents(path).replace(b"\\/", b"/") for path in files}
    assert {path.suffix for path, said in found.items() if typed.encode() in said} >= {
        ".json",
        ".parquet",
        ".html",
    }
    for content in found.values():
        assert_no_places([(typed, content.replace(typed.encode(), b""))], work, tmp_path)


@pytest.mark.parametrize("where", ["value", "metadata of the schema", "metadata of a column"])
def test_a_planted_path_is_found(where: str, tmp_path: Path) -> None:
    said = {"of": str(tmp_path)}
    column = pa.field("a", pa.string(), metadata=said if "column" in where else None)
    schema = pa.schema([column], metadata=said if "schema" in where else None)
    rows = [{"a": f"{'y' * 99}{tmp_path if where == 'value' else ''}"}] * 99
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "a.parquet", compression="zstd")
    said_there = contents(tmp_path / "a.parquet")
    with pytest.raises(AssertionError):
        assert_no_places([("a", said_there)], tmp_path)
    assert_no_places([("a", said_there)], tmp_path / "other")
