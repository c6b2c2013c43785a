"""What a user names is written only where that is meant: no file, device, pipe or link is lost."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from elimtool.errors import ElimError
from elimtool.files.destination import check_file, write_file

CONTENT = b"content"


def test_a_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    check_file(path, overwrite=False)
    assert not (tmp_path / "new").exists()
    write_file(path, CONTENT, overwrite=False)
    for act in (lambda: check_file(path, False), lambda: write_file(path, b"other", overwrite=False)):
        with pytest.raises(ElimError, match="exists") as refused:
            act()
        assert "`overwrite`" in refused.value.hint
    assert path.read_bytes() == CONTENT
    write_file(path, b"other", overwrite=True)
    assert path.read_bytes() == b"other"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_stays_a_link(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "folder").mkdir()
    link, target = tmp_path / "link", tmp_path / "folder" / "file"
    link.symlink_to(target)
    write_file(link, CONTENT, overwrite)  # to nothing yet
    assert link.is_symlink() and target.read_bytes() == CONTENT
    if overwrite:
        write_file(link, b"other", overwrite)
        assert link.is_symlink() and target.read_bytes() == b"other"
    else:
        with pytest.raises(ElimError, match="link exists"):
            write_file(link, b"other", overwrite)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ElimError, match=r"cannot write .*loop"):
        write_file(tmp_path / "loop", CONTENT, overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_stays_what_it_is(tmp_path: Path, overwrite: bool) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        for path, what in ((tmp_path / "socket", "a socket"), (tmp_path, "a directory")):
            for act in (check_file, lambda one, over: write_file(one, CONTENT, over)):
                with pytest.raises(ElimError, match=f"is {what}, not a file"):
                    act(path, overwrite)
    for path in (Path("/dev/null"), Path("/dev/full")):
        before = path.stat().st_mode
        if path.name == "null":
            write_file(path, CONTENT, overwrite)
        else:
            with pytest.raises(ElimError, match="no space left on the disk"):
                write_file(path, CONTENT, overwrite)
        assert path.stat().st_mode == before and stat.S_ISCHR(before)


def test_a_pipe_takes_the_content(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_file(tmp_path / "pipe", CONTENT, overwrite=False)
    reader.join(10)
    assert found == [CONTENT] and (tmp_path / "pipe").is_fifo()
    read, write = os.pipe()

    write_file(Path(f"/dev/fd/{write}"), CONTENT, overwrite=False)
    os.close(write)
    assert os.read(read, 99) == CONTENT
