"""Hostile ids, prompts, targets, names and arguments: no command prints anything that acts."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from elimtool.errors import ElimError
from elimtool.tasks.batch.state import State
from tests.cli.conftest import Command
from tests.report import runs
from tests.report.test_visible import does_something

EVIL = "\x1b[31mX\r::error::y\u202ez\u200b\x9b2J##[error]"
START = "::error::y"
CODES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def tiny_model(elimtool: Command, llama_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELIMTOOL_MODEL", str(llama_directory))
    monkeypatch.setenv("ELIMTOOL_LENS", "raw")


def said(done: object) -> str:
    """Everything printed, which must not act."""
    text = f"{done.out}\n{done.err}"  # type: ignore[attr-defined]
    found = does_something(text)
    assert not found, (found, text)
    return text


@pytest.mark.parametrize("evil", [EVIL, START])
def test_arguments(evil: str, elimtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs.france().save(tmp_path / "run")
    for arguments in (
        [evil],
        ["trace"],
        ["trace", "a", f"--{evil}"],
        ["trace", "a", "--position", evil],
        ["trace", "a", "--limit", evil],
        ["trace", "a", "--batch-size", evil],
        ["trace", "a", "-m", evil],
        ["trace", "a", "--samplers", evil],
        ["trace", "a", "--lens", evil],
        ["trace", "a", "--tables", evil],
        ["trace", "a", "--span", evil],
        ["trace", "a", "--ablate", evil],
        ["trace", "--file", evil],
        ["batch", evil, "-o", "out"],
        ["batch", "a", "-o", evil, "--engine", evil],
        ["check", evil],
        ["compare", evil, evil],
        ["report", evil],
        ["report", "run", "--figure", evil],
        ["report", "run", "--figure", "ranks", "--prompt", evil],
        ["run", "status", evil],
        ["run", "show", "run", evil],
        ["run", "show", "run", "lens", "--where", evil],
        ["lens", "fit", evil],
        ["models", "verify", evil],
        ["models", "pull", evil],
        ["samplers", "show", evil],
    ):
        done = elimtool(*arguments)
        assert done.code in (2, 5), (arguments, done)
        said(done)


@pytest.mark.parametrize("evil", [EVIL, START])
def test_records_and_names(
    evil: str, elimtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = evil.replace("/", "") + ".jsonl"
    twice = json.dumps({"prompt": "a", "id": evil})
    Path(name).write_text(f"{twice}\n{twice}\n")
    done = elimtool("batch", name, "-o", "twice")
    assert done.code == 2 and "same id" in said(done)
    records = [
        {"prompt": evil, "id": evil, "targets": [evil], "group": evil},
        {"prompt": "b", "id": f"{evil}2", "spans": {evil: "zz"}},
        {"prompt": "c", "id": f"{evil}3", evil: 1},
    ]
    Path(name).write_text("".join(json.dumps(one) + "\n" for one in records))
    out = evil
    done = elimtool("batch", name, "-o", out, "--samplers", "hf")
    assert done.code == 6
    assert "X" in said(done) or evil == START
    for command in (
        ["run", "status", out],
        ["run", "show", out],
        ["run", "show", out, "prompts"],
        ["run", "show", out, "prompts", "--columns", "prompt_id,error_message"],
        ["run", "show", out, "verdicts", "--where", f"prompt_id='{evil}'"],
        ["report", out, "-o", f"{evil}.html"],
        ["trace", evil, "-t", evil, "--chat"],
        ["trace", evil, "-t", evil, "-v", "--samplers", "hf"],
        ["compare", out, out],
    ):
        done = elimtool(*command)
        assert done.code in (0, 2, 6), (command, done)
        said(done)
    page = Path(f"{evil}.html").read_text()
    assert not {"\x1b", "\r", "\u202e", "\u200b", "\x9b"} & set(page)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception(messages[0]['content']) }}",
        "{{ raise_exception('\x1b[31mX\r::error::y\u202ez\n##[error]\u200b\x9b2J') }}",
        "{{ none[messages[0]['content']].x }}",
        "{% import messages[0]['content'] as x %}",
        "{{ messages[0]['content'].\x1b[31m\r::error::y }}",
        "{{ messages[0]['content'] }}",
    ],
    ids=["what the user wrote", "of its own", "a name", "a file", "a syntax error", "shown"],
)
def test_messages_of_chat_templates(
    template: str, elimtool: Command, llama_directory: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(llama_directory, model)
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    file = tmp_path / "chats.jsonl"
    record = {"id": "a", "messages": [{"role": "user", "content": EVIL}]}
    file.write_text(f"{json.dumps(record)}\n" + '{"prompt": "b", "id": "b"}\n')
    shown = template == "{{ messages[0]['content'] }}"
    for command, code in (
        (["trace", EVIL, "--chat"], 2),
        (["batch", file, "-o", tmp_path / "run"], 6),
        (["run", "show", tmp_path / "run", "prompts", "--columns", "prompt_id,error_message"], 0),
        (["report", tmp_path / "run", "-o", tmp_path / "page.html"], 0),
    ):
        done = elimtool(*command, *(["-m", model] if command[0] in ("trace", "batch") else []))
        assert done.code == (0 if shown else code), (command, done)
        text = said(done)
        assert shown or command[0] != "trace" or "chat template" in text
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not {"\x1b", "\r", "\u202e", "\u200b", "\x9b"} & set(page)


def test_names_that_are_not_utf_8_or_too_long(
    elimtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a b\n")
    Path("checks.yaml").write_text("version: 1\nchecks: [{id: a, metric: entropy, min: 0}]\n")
    runs.france().save(tmp_path / "run")
    name = os.fsdecode(b"n\xff")
    shutil.copytree("run", name)
    for odd in (name, f"{name}2", "x" * 300):
        for arguments in (
            ["trace", "a", "-o", odd],
            ["batch", "prompts.txt", "-o", odd],
            ["batch", odd, "-o", "out"],
            ["run", "status", odd],
            ["run", "show", odd, "lens"],
            ["run", "merge", odd, "run", "-o", "out"],
            ["run", "merge", "run", "-o", odd],
            ["report", odd],
            ["compare", odd, "run"],
            ["compare", "run", "run", "-o", odd],
            ["check", odd],
            ["check", "checks.yaml", "--run", odd],
            ["check", "checks.yaml", "--run", "run", "--baseline", odd],
            ["check", "checks.yaml", "--run", "run", "--junit", odd * 2],
        ):
            done = elimtool(*arguments)
            assert done.code in (0, 2, 4, 5, 10), (arguments, done)
            assert "see the traceback" not in done.err, (arguments, done)  # as the last net says
            said(done)


def test_a_part_that_is_a_directory(
    elimtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs.france().save(tmp_path / "run")
    part = tmp_path / "run/survival/part-00000.parquet"
    part.unlink()
    part.mkdir()
    done = elimtool("run", "show", "run", "survival", "--where", "position<1")
    assert done.code == 2 and "cannot read table survival of run" in done.err


@pytest.mark.parametrize("facts", [{}, {"input": {}}, [], None])
def test_a_plan_without_its_facts(facts: object, tmp_path: Path) -> None:
    state = State(tmp_path)
    state.folder.mkdir()
    manifest = runs.france().manifest.to_dict()
    (state.folder / "plan.json").write_text(json.dumps({"manifest": manifest, "facts": facts}))
    with pytest.raises(ElimError, match="is not the directory of a batch"):
        state.plan()
