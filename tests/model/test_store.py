import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from elimtool.errors import ElimError
from elimtool.model import atomic, store


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def touch_back(path, stat):
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_cache_directory_follows_the_variable_else_the_platform(cache, monkeypatch, tmp_path):
    assert store.cache_dir() == cache
    monkeypatch.delenv("ELIMTOOL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert tmp_path in store.cache_dir().parents
    assert store.cache_dir().name == "elimtool"


def test_digest_of_a_file_is_remembered_until_size_or_time_changes(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"one")
    assert store.sha256_file(path) == sha(b"one")
    stat = path.stat()
    path.write_bytes(b"two")
    touch_back(path, stat)
    assert store.sha256_file(path) == sha(b"one")  # same size and time: not read again
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert store.sha256_file(path) == sha(b"two")
    path.write_bytes(b"three")
    touch_back(path, stat)
    assert store.sha256_file(path) == sha(b"three")


def test_digest_works_without_a_usable_cache(tmp_path, cache):
    cache.write_text("a file where the directory should be")
    (tmp_path / "a").write_bytes(b"x")
    assert store.sha256_file(tmp_path / "a") == sha(b"x")


def test_a_broken_digest_cache_is_ignored(tmp_path, cache):
    cache.mkdir()
    (cache / "hashes.json").write_text("{ not json")
    (tmp_path / "a").write_bytes(b"x")
    assert store.sha256_file(tmp_path / "a") == sha(b"x")
    assert json.loads((cache / "hashes.json").read_text())[str((tmp_path / "a").resolve())][2] == sha(b"x")


def test_digests_of_vanished_files_are_forgotten_and_of_too_many_the_small_ones(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(store, "MOST_DIGESTS", 2)
    files = [tmp_path / (name * size) for name, size in zip("abcd", (3, 9, 1, 2), strict=True)]

    def kept(file):
        file.write_bytes(file.name.encode())
        assert store.sha256_file(file) == sha(file.name.encode())
        return sorted(Path(name).name[0] for name in json.loads((cache / "hashes.json").read_text()))

    assert [kept(file) for file in files] == [["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "d"]]
    files[1].unlink()
    assert kept(tmp_path / "e") == ["a", "d", "e"]


def test_weights_digest_is_of_names_and_contents_in_order(tmp_path):
    (tmp_path / "model-2.safetensors").write_bytes(b"bb")
    (tmp_path / "model-1.safetensors").write_bytes(b"a")
    (tmp_path / "training_args.bin").write_bytes(b"ignored beside safetensors")
    expected = sha(f"model-1.safetensors\0{sha(b'a')}\nmodel-2.safetensors\0{sha(b'bb')}\n".encode())
    assert store.weights_sha256(tmp_path) == expected
    (tmp_path / "model-1.safetensors").rename(tmp_path / "model-0.safetensors")
    assert store.weights_sha256(tmp_path) != expected


def test_weights_digest_of_a_record_is_used_only_while_the_file_is_the_recorded_one(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"aaaa")
    store.write_record(tmp_path, {"source": {}})
    first = store.weights_sha256(tmp_path)
    assert first == store.read_record(tmp_path)["weights_sha256"]
    stat = weights.stat()
    weights.write_bytes(b"bbbb")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert store.weights_sha256(tmp_path) == sha(f"model.safetensors\0{sha(b'bbbb')}\n".encode()) != first


def test_a_directory_without_weights_or_tokenizer_is_refused(tmp_path):
    with pytest.raises(ElimError, match="no weights"):
        store.weights_sha256(tmp_path)
    with pytest.raises(ElimError, match="no tokenizer"):
        store.tokenizer_sha256(tmp_path)


def test_tokenizer_digest_prefers_tokenizer_json_and_else_takes_vocabulary_files(tmp_path):
    (tmp_path / "vocab.json").write_bytes(b"{}")
    (tmp_path / "merges.txt").write_bytes(b"a b")
    expected = sha(f"merges.txt\0{sha(b'a b')}\nvocab.json\0{sha(b'{}')}\n".encode())
    assert store.tokenizer_sha256(tmp_path) == expected
    (tmp_path / "tokenizer.json").write_bytes(b"[]")
    assert store.tokenizer_sha256(tmp_path) == sha(b"[]")


@pytest.fixture
def converted(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(b"weights")
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer.json").write_text("{}")
    store.write_record(directory, {})
    return directory


def test_intact_directories_survive_a_copy_but_no_loss(converted):
    assert store.is_intact(converted)
    weights = converted / "model.safetensors"
    os.utime(weights, ns=(0, 0))
    assert store.is_intact(converted)
    weights.write_bytes(b"weighty")
    assert not store.is_intact(converted)
    weights.write_bytes(b"weights")
    assert store.is_intact(converted)
    weights.write_bytes(b"weight")
    assert not store.is_intact(converted)


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json", "tokenizer.json", store.RECORD])
def test_a_directory_that_lacks_a_file_is_not_intact(converted, lost):
    (converted / lost).unlink()
    assert not store.is_intact(converted)


def test_a_failed_build_leaves_nothing_and_keeps_what_was_there(tmp_path):
    target = tmp_path / "made"
    with atomic.built_aside(target) as aside:
        (aside / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic.built_aside(target) as aside:
        (aside / "new").write_text("new")
        raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_build_is_invisible_until_it_ends_and_sweeps_up_after_killed_ones(tmp_path):
    target = tmp_path / "made"
    (tmp_path / ".made-dead").mkdir()
    (tmp_path / ".made-dead" / "half").write_text("half")
    with atomic.built_aside(target) as aside:
        assert aside.name.startswith(".")
        assert not target.exists()
        assert not (tmp_path / ".made-dead").exists()
    assert target.is_dir()


def test_too_little_space_names_amount_place_and_variable(tmp_path):
    with pytest.raises(ElimError) as caught:
        atomic.require_space(tmp_path, 10**18)
    assert str(tmp_path) in caught.value.message
    assert "1000000000.00 GB needed" in caught.value.message
    assert "ELIMTOOL_CACHE" in caught.value.hint


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_damaged_configuration_or_tokenizer_is_noticed(converted, name, recorded):
    for file in ("config.json", "tokenizer.json"):
        (converted / file).write_text('{"a": 1}')
    store.write_record(converted, {})
    if not recorded:  # by an earlier elimtool
        record = store.read_record(converted)
        del record["beside"]
        atomic.write_json(converted / store.RECORD, record)
    assert store.is_intact(converted)
    (converted / name).write_text('{"a"')
    assert not store.is_intact(converted)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"FILE": 3}', '{"FILE": [1, 2]}', "[" * 100_000])
def test_damaged_hashes_are_computed_anew(tmp_path, monkeypatch, content):
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    hashes = tmp_path / "cache" / "hashes.json"
    hashes.parent.mkdir()
    hashes.write_text(content.replace("FILE", str(file.resolve())))
    assert store.sha256_file(file) == sha(b"abc")
    assert store.read_json(hashes)[str(file.resolve())][2] == sha(b"abc")


def test_what_is_kept_is_read_without_a_lock_and_made_once_or_anew(tmp_path, monkeypatch):
    made, path = [], tmp_path / "kept"

    def make():
        made.append(path)
        path.write_text("whole")

    def read(known):
        if known.read_text() != "whole":
            raise ElimError("damaged")
        return known.read_text()

    assert atomic.kept(path, read, make, None) == "whole" and len(made) == 1
    path.write_text("wh")
    with pytest.warns(UserWarning, match="kept in the cache is damaged, and is made anew"):
        assert atomic.kept(path, read, make, None) == "whole"
    assert len(made) == 2

    def refuse(*_arguments):
        raise AssertionError("a lock needs a cache that can be written")

    monkeypatch.setattr(atomic, "locked", refuse)
    assert atomic.kept(path, read, make, None) == "whole" and len(made) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_cache_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ElimError, match="not writable"):
        atomic.ensure_directory(tmp_path / "models")


def test_a_cache_below_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ElimError, match="not writable") as caught:
        atomic.ensure_directory(tmp_path / "file" / "models")
    assert "ELIMTOOL_CACHE" in caught.value.hint


def test_progress_is_told_once_for_every_tenth():
    lines = []
    tell = atomic.in_tenths(lines.append, "reading")
    for done in range(101):
        tell(done / 100)
    assert lines == [f"reading: {tenth * 10} %" for tenth in range(11)]


def test_the_store_needs_neither_torch_nor_transformers():
    code = "import sys, elimtool.model.store; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_what_the_cache_keeps_can_be_read_by_all_whom_the_umask_lets(mask, tmp_path):
    before = os.umask(mask)
    try:
        with atomic.built_aside(tmp_path / "model") as aside:
            atomic.write_json(aside / "elimtool.json", {})
            (aside / "deeper").mkdir(mode=0o700)
            os.close(os.open(aside / "deeper" / "weights", os.O_CREAT, 0o600))
    finally:
        os.umask(before)
    for path in (tmp_path / "model", *(tmp_path / "model").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask
