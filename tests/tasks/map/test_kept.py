"""The map of a model in the cache: found by its weights, made once, and never put into a run half-way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.run.analysis import Analysis
from elimtool.tasks.map.kept import cached_map, ensure_map, is_stale
from tests.cli.conftest import Command
from tests.cli.conftest import elimtool as command  # noqa: F401 - a fixture

PROMPT = "The capital of France is"


@pytest.fixture
def kept(command: Command, llama: Any, mapped: Analysis, map_directory: Path) -> Path:  # noqa: F811
    """The cache's map of the model: here of few and short passages."""
    del command, mapped
    return Path(shutil.copytree(map_directory, cached_map(llama)))


def config(directory: Path) -> Any:
    return json.loads((directory / "run.json").read_text())["config"]


def test_a_trace_takes_the_map_in_the_cache_and_says_which(
    command: Command,  # noqa: F811
    kept: Path,
    llama_directory: Path,
    tmp_path: Path,
) -> None:
    line = ("trace", PROMPT, "-m", llama_directory, "--samplers", "hf", "--tables", "verdicts")
    assert command(*line, "-o", tmp_path / "found").code == 0
    given = config(tmp_path / "found")["roles"]
    assert given["map"] == elimtool.open_run(kept).manifest.fingerprint and len(given["profiles"]) == 16
    assert command(*line, "--map", kept, "-o", tmp_path / "named").code == 0
    assert command(*line, "--map", "none", "-o", tmp_path / "none").code == 0
    assert config(tmp_path / "named")["roles"] == given and "roles" not in config(tmp_path / "none")
    run = elimtool.open_run(tmp_path / "found")
    profile = elimtool.head_roles(kept).profiles[6]
    assert profile.head == "1.2" and dict(run.head_profiles["1.2"].scores) == dict(profile.scores)
    shutil.rmtree(kept)
    assert command(*line, "-o", tmp_path / "gone").code == 0
    assert "roles" not in config(tmp_path / "gone")


def test_a_map_that_is_made_meanwhile_changes_no_byte_of_a_batch(
    command: Command,  # noqa: F811
    kept: Path,
    llama_directory: Path,
    tmp_path: Path,
) -> None:
    aside = kept.rename(tmp_path / "aside")
    (tmp_path / "prompts.txt").write_text(f"{PROMPT}\nOne two three\n")
    line = ("batch", tmp_path / "prompts.txt", "-m", llama_directory, "--tables", "verdicts")

    def ran(name: str, *more: str) -> bytes:
        done = command(*line, "-o", tmp_path / name, *more)
        assert done.code == 0, done.err
        return (tmp_path / name / "run.json").read_bytes()

    before = ran("without")
    aside.rename(kept)
    assert ran("without") == before and "roles" not in config(tmp_path / "without")  # goes on as it was
    found = ran("with")
    assert config(tmp_path / "with")["roles"]["map"]
    kept.rename(aside)
    assert ran("with") == found
    ran("with", "--overwrite")
    assert "roles" not in config(tmp_path / "with")


def test_a_map_is_made_once_and_only_with_the_settings_as_they_are(
    command: Command,  # noqa: F811
    llama: Any,
    llama_directory: Path,
) -> None:
    refused = command("map", llama_directory, "--passages", "12")
    assert refused.code == 2 and "say where to with --out" in refused.err
    said: list[str] = []
    place = ensure_map(llama, said.append)
    assert said and len(elimtool.head_roles(place).profiles) == 16
    assert ensure_map(llama, pytest.fail) == place and not is_stale(place)  # not made again
    plan = place / ".batch" / "plan.json"
    plan.write_text(plan.read_text().replace('"elimtool": "', '"elimtool": "0.0.'))
    assert is_stale(place)
