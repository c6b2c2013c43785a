"""A finished run or comparison is listed at once, and a prompt of it is read from its own parts alone."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.cli import app
from elimtool.errors import ElimError
from elimtool.report.facts import Tables
from elimtool.report.html import compare, payload
from elimtool.run import beside, comparison, writer
from elimtool.run.beside import PromptParts
from elimtool.run.comparison import open_comparison
from elimtool.tasks.explore import taken
from elimtool.tasks.explore.asked import Offered
from elimtool.tasks.explore.guard import hosts_of
from elimtool.tasks.explore.opened import MOST_TEXT, OpenedRun, asked_of, open_any
from elimtool.tasks.explore.server import application
from elimtool.tasks.explore.work import JobQueue
from tests.cli.conftest import Command
from tests.cli.conftest import elimtool as command_line
from tests.report.runs import compared, many_pairs
from tests.tasks.explore.conftest import PORT, TOKEN

__all__ = ["command_line"]

LINES = [
    '{"id": "one", "prompt": "The capital of France is", "targets": ["Paris"], "group": "a"}',
    '{"id": "two", "messages": [{"role": "system", "content": "Be brief."},'
    ' {"role": "user", "content": "Hi"}]}',
    '{"id": "three", "prompt": "The capital", "foils": ["x"], "targets": ["y"]}',
    '{"id": "far", "prompt": "' + "too long " * 100 + '"}',
    '{"id": "five", "prompt": "A token of the text", "group": "b"}',
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, llama_directory: Path) -> Path:
    folder = tmp_path_factory.mktemp("opened")
    (folder / "prompts.jsonl").write_text("\n".join(LINES))
    given = ["-m", llama_directory, "--shard-size", 2, "--max-errors", 5, "-q"]
    with pytest.raises(SystemExit) as ended:
        app.main([str(one) for one in ("batch", folder / "prompts.jsonl", "-o", folder / "run", *given)])
    assert ended.value.code == 6  # one prompt is too long
    return folder / "run"


def test_each_prompt_of_the_list_is_the_one_of_the_report(directory: Path) -> None:
    opened = open_any(directory)
    assert isinstance(opened, OpenedRun)
    tables = Tables(elimtool.open_run(directory).under(None))
    front, details = payload.front(tables), list(payload.details(tables))
    assert [one["id"] for one in opened.front["prompts"]] == [one["id"] for one in front["prompts"]]
    assert all(len(one["text"]) <= MOST_TEXT for one in opened.front["prompts"])
    for index, (line, detail) in enumerate(zip(front["prompts"], details, strict=True)):
        found = opened.prompt(index)
        assert (found["line"], found["prompt"]) == (line, detail)
    assert opened.together()["overview"] == front["overview"]
    with pytest.raises(ElimError, match="no prompt 5"):
        opened.prompt(5)


def test_the_parts_of_a_prompt_hold_all_its_rows_and_no_other_shard(directory: Path) -> None:
    run = elimtool.open_run(directory)
    parts = PromptParts(run)
    for name in ("one", "two", "three", "far", "five"):
        own = parts.of(name)
        assert len(own.arrow("prompts")) <= 2
        for table in run.tables:
            whole = [row for row in run.arrow(table).to_pylist() if row.get("prompt_id") == name]
            some = own.arrow(table).to_pylist() if table in own.tables else []
            assert [row for row in some if row["prompt_id"] == name] == whole


def test_a_prompt_of_a_run_is_asked_with_its_targets_and_messages(directory: Path) -> None:
    opened = open_any(directory)
    asked = [opened.prompt(index)["asked"] for index in range(5)]
    assert asked[0] == {"prompt": "The capital of France is", "targets": ["Paris"]}
    assert asked[1] == {"prompt": "Hi", "system": "Be brief."}
    assert asked[2] == {"prompt": "The capital", "targets": ["y"], "foils": ["x"]}
    turns = [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}, {"role": "user", "text": "c"}]
    assert asked_of({"text": "", "turns": turns, "targets": [], "foils": []}) is None


def test_each_pair_of_the_list_is_the_one_of_the_report(tmp_path: Path) -> None:
    compared().save(tmp_path / "pairs")
    opened = open_any(tmp_path / "pairs")
    whole = open_comparison(tmp_path / "pairs")
    front, details = compare.front(whole), list(compare.details(whole))
    brief = [{**one, "parts": None} for one in front["prompts"]]
    assert opened.front["prompts"] == brief and len(brief) == 4  # with a control and an error
    for index, (line, detail) in enumerate(zip(front["prompts"], details, strict=True)):
        found = opened.prompt(index)
        assert (found["line"], found["prompt"], found["asked"]) == (line, detail, None)
    assert opened.together()["overview"] == front["overview"] != []
    with pytest.raises(ElimError, match="no pair 99"):
        opened.prompt(99)


def test_of_a_comparison_nothing_is_read_before_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ROW_GROUP", 100)
    many_pairs(40).save(tmp_path / "pairs")
    whole = {name: table.num_rows for name, table in open_comparison(tmp_path / "pairs").tables.items()}
    counted: dict[str, int] = {}
    whole_parts, groups = comparison.read_parts, beside.read_groups

    def parts(paths: Any, *given: Any) -> Any:
        table = whole_parts(paths, *given)
        counted[paths[0].parent.name] = counted.get(paths[0].parent.name, 0) + table.num_rows
        return table

    def some(path: Path, wanted: Any) -> Any:
        table = groups(path, wanted)
        counted[path.parent.name] = counted.get(path.parent.name, 0) + table.num_rows
        return table

    monkeypatch.setattr(comparison, "read_parts", parts)
    monkeypatch.setattr(beside, "read_groups", some)
    opened = open_any(tmp_path / "pairs")
    assert counted == {name: whole[name] for name in ("pairs", "alignment")}
    counted.clear()
    assert opened.prompt(21)["line"]["id"] == "pair-00021"
    assert counted["lens_differences"] <= 200 < whole["lens_differences"]  # it may lie on a border of two
    assert not [name for name in counted if whole[name] > 200 and counted[name] > 200]


def test_what_is_no_run_or_a_damaged_one_is_refused_before_it_is_served(tmp_path: Path, llama: Any) -> None:
    with pytest.raises(ElimError, match="is not a run directory"):
        open_any(tmp_path)
    elimtool.trace(llama, "The capital").save(tmp_path / "run")
    (tmp_path / "run" / "prompts" / "part-00000.parquet").write_bytes(b"")
    with pytest.raises(ElimError, match="cannot read"):
        open_any(tmp_path / "run")


def rows(run: Any) -> dict[str, Any]:
    return {name: run.arrow(name).to_pylist() for name in run.tables}


def test_what_was_opened_is_packed_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared().save(tmp_path / "pairs")
    monkeypatch.setattr(taken, "PIECE", 1000)
    pieces = list(open_any(tmp_path / "pairs").archive())
    assert len(pieces) > 20 and max(map(len, pieces)) < 8000  # the last has the list of all files
    zipfile.ZipFile(io.BytesIO(b"".join(pieces))).extractall(tmp_path / "again")
    again = open_comparison(tmp_path / "again" / "pairs")
    assert again.to_dict() == open_comparison(tmp_path / "pairs").to_dict()


def test_the_server_serves_the_run_beside_the_model(states: Any, directory: Path, tmp_path: Path) -> None:
    (directory / "notes.txt").write_text("the user's own")
    testing = pytest.importorskip("starlette.testclient")
    with JobQueue() as jobs:
        served = application(states, jobs, TOKEN, hosts_of("127.0.0.1", PORT), Offered(), open_any(directory))
        with testing.TestClient(served, base_url=f"http://127.0.0.1:{PORT}") as client:
            assert "five" in client.get(f"/{TOKEN}/run").text
            assert client.get(f"/{TOKEN}/api/prompt/0").json()["line"]["id"] == "one"
            assert client.get(f"/{TOKEN}/api/prompt/9").status_code == 400
            assert client.get(f"/{TOKEN}/api/prompt/../../etc").status_code == 404
            assert client.get(f"/{TOKEN}/api/together").json()["overview"]
            assert client.get("/wrong/run").status_code == 403
            assert client.get("/wrong/api/tables").status_code == 403
            saved = client.get(f"/{TOKEN}/api/tables?path=/etc/passwd")
            assert saved.headers["content-disposition"].startswith("attachment")
    zipfile.ZipFile(io.BytesIO(saved.content)).extractall(tmp_path)
    assert rows(elimtool.open_run(tmp_path / "run")) == rows(elimtool.open_run(directory))
    assert not list(tmp_path.rglob("notes.txt"))


def test_without_a_run_there_is_no_page_of_one(client: Any) -> None:
    assert client.get(f"/{TOKEN}/run").status_code == 404


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "--token"),
        (["--host", "0.0.0.0", "--token", "short"], "16 to 128"),
        (["--port", "70000"], "0 to 65535"),
        (["--lens", "nothing"], "lens"),
        (["nowhere"], "nowhere does not exist"),
    ],
)
def test_the_command_refuses_what_it_cannot_serve(
    command_line: Command, arguments: list[str], words: str
) -> None:
    done = command_line("explore", "--no-browser", *arguments)
    assert done.code in (2, 5) and words in done.err and not done.out
