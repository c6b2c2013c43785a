"""Write a result to the file that a user named: no file lost unasked, no device or link replaced."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.files.writing import make_directory, remove_directories, write_whole, writing

_OPEN = re.compile(r"/dev/(?:(stdin|stdout|stderr)|fd/(\d+))|/proc/self/fd/(\d+)")
_STANDARD = ("stdin", "stdout", "stderr")

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
"""What nothing is written to."""
STREAMS = (stat.S_IFCHR, stat.S_IFIFO)
"""What is written through: terminals, ``/dev/null``, pipes."""


def check_file(path: Path, overwrite: bool = False, parameter: str = "out") -> None:
    """Refuse a file that ``write_file`` would refuse, before any work; leave nothing behind.

    Args:
        path: The file. A symbolic link stands for what it points to.
        overwrite: Whether a regular file may be replaced.
        parameter: Parameter that named the file, for the message.

    Raises:
        ElimError: It exists, is neither a file nor a stream, or its folder cannot be made.
    """
    with writing(path):
        if descriptor(path) is None and not _streams(path):
            target = path.resolve()
            if target.exists() and not overwrite:
                raise ElimError(f"{path} exists", f"give another `{parameter}`, or `overwrite` to replace it")
            remove_directories(make_directory(target.parent))


def write_file(path: Path, content: bytes, overwrite: bool, parameter: str = "out") -> None:
    """Write a file whole or not at all, with its folder; a stream is written through.

    A link stays and the file that it points to is written; terminals, ``/dev/null`` and pipes (also
    ``/dev/stdout`` and ``/dev/fd/N``) take the content as they are.

    Args:
        path: The file.
        content: What to write.
        overwrite: Replace a regular file that is there.
        parameter: As for ``check_file``.

    Raises:
        ElimError: As ``check_file``; or the file system refuses.
    """
    check_file(path, overwrite, parameter)
    number = descriptor(path)
    with writing(path):
        if number is not None or _streams(path):
            with os.fdopen(os.dup(number), "wb") if number is not None else path.open("wb") as stream:
                stream.write(content)
            return
        target = path.resolve()
        make_directory(target.parent)
        write_whole(target, lambda file: file.write(content))


def descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path such as ``/dev/stdout`` names; ``None`` for others."""
    found = _OPEN.fullmatch(str(path))
    if found is None:
        return None
    name, *numbers = found.groups()
    return _STANDARD.index(name) if name else int(numbers[0] or numbers[1])


def _streams(path: Path) -> bool:
    """Whether a path is written through.

    Raises:
        ElimError: It is neither a regular file nor a stream.
        OSError: It cannot be looked at, such as a link to itself.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return False
    if kind in KINDS:
        raise ElimError(f"{path} is {KINDS[kind]}, not a file", "give the name of a file")
    return kind in STREAMS
