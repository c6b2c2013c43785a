"""Chat options of every command: they reach the template, stand in run.json, and a file's day is fixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import elimtool as package
from elimtool.prompts.chat import PINNED
from tests.cli.conftest import Command

TEMPLATE = (
    "{{ strftime_now('%Y-%m-%d') }}{% if mood is defined %} {{ mood }}{% endif %}"
    "{% if tools %} {{ tools[0].name }}{% endif %};\n"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
)


@pytest.fixture
def dated(llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose template reads the clock."""
    found = tmp_path / "dated"
    shutil.copytree(llama_directory, found)
    (found / "chat_template.jinja").write_text(TEMPLATE)
    monkeypatch.setenv("ELIMTOOL_MODEL", str(found))
    return found


def _config(run: Any) -> Any:
    return run["config"] if isinstance(run, dict) else run.manifest.config


def test_trace_and_locate_and_attribute_take_them(elimtool: Command, dated: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text('[{"name": "weather"}]')
    given = ("--template-var", "mood=3", "--tools", tools, "--now", "2026-01-31")
    for more in (("trace",), ("attribute", "--method", "leave-one-out")):
        done = elimtool(more[0], "Which city?", "--chat", *more[1:], *given, "-t", "Paris", "--json")
        found = json.loads(done.out)
        (row,) = found["tables"]["prompts"]
        assert row["text"].startswith("2026-01-31 3 weather;\nuser: Which city?\n"), done.err
        assert row["clock"] == "2026-01-31"
        assert _config(found["run"])["chats"][row["prompt_id"]] == {
            "template_vars": {"mood": 3},
            "tools": [{"name": "weather"}],
            "now": "2026-01-31",
        }
    done = elimtool("trace", "Which city?", "--chat", *given)
    assert "the chat template reads the clock, which said 2026-01-31" in " ".join(done.out.split())
    done = elimtool(
        "locate", "Which city?", "--corrupt", "Which town?", "--chat", *given, "-t", "Paris", "--json"
    )
    texts = [row["text"] for row in json.loads(done.out)["tables"]["prompts"]]
    assert all(text.startswith("2026-01-31 3 weather;\n") for text in texts)


def test_a_batch_and_a_check_do_not_depend_on_the_day(elimtool: Command, dated: Path, tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "Which city?"}]
    records = [
        {"id": "plain", "messages": turns},
        {"id": "own", "messages": turns, "template_vars": {"mood": "glad"}},
    ]
    file.write_text("".join(json.dumps(one) + "\n" for one in records))
    assert elimtool("batch", file, "-o", tmp_path / "run", "--template-var", "mood=calm").code == 0
    rows = package.open_run(tmp_path / "run").table("prompts").set_index("prompt_id")
    assert rows.loc["plain", "text"].startswith(f"{PINNED} calm;\n")
    assert rows.loc["own", "text"].startswith(f"{PINNED} glad;\n")
    checks = tmp_path / "checks.yaml"
    checks.write_text(
        "version: 1\nprompts: chats.jsonl\nnow: 2026-02-03\ntemplate_vars: {mood: calm}\nchecks:\n"
        "  - {id: one, metric: final_rank, target: Paris, min: 1}\n"
    )
    assert elimtool("check", checks, "-m", dated, "-o", tmp_path / "checked").code == 0
    rows = package.open_run(tmp_path / "checked").table("prompts").set_index("prompt_id")
    assert rows.loc["plain", "text"].startswith("2026-02-03 calm;\n")
    done = elimtool("check", checks, "-m", dated, "-o", tmp_path / "later", "--now", "2026-03-04")
    assert "which said 2026-03-04" in done.err
    checks.write_text(checks.read_text().replace("2026-02-03", "soon"))
    done = elimtool("check", checks, "-m", dated)
    assert (done.code, "ISO 8601" in done.err) == (2, True)


def test_compare_gives_both_sides_one_time(elimtool: Command, dated: Path) -> None:
    pair = ("compare", "--prompt", "Which city?", "--prompt", "Which town?", "--chat")
    done = elimtool(*pair, "--now", "2026-01-31", "--controls", "2", "--json")
    assert done.code == 0, done.err
    assert any("2026-01-31" in note for note in json.loads(done.out)["comparison"]["notes"])


def test_what_cannot_be_used_is_said_before_the_model_is_loaded(elimtool: Command, tmp_path: Path) -> None:
    for more, says in (
        (("--template-var", "mood"), "--template-var must be NAME=VALUE"),
        (("--now", "noon"), "--now must be"),
        (("--tools", tmp_path / "none.json"), "cannot read"),
    ):
        done = elimtool("trace", "Hi", "--chat", "-m", "no/such/model", *more)
        assert (done.code, says in done.err) == (2, True), done.err
    done = elimtool("trace", "Hi", "-m", "no/such/model", "--template-var", "mood=1")
    assert (done.code, "--template-var goes with a chat" in done.err) == (2, True), done.err
