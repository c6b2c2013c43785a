"""Files that are there whole or not at all: written aside, synced to disk, renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from elimtool.errors import ElimError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class DiskFull(ElimError):
    """There is no space left; what was written before is whole."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the file system while ``path`` is written into a message with the next step.

    Raises:
        ElimError: The disk is full, permission is missing, or the system refuses for another reason.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in FULL:
            hint = "free some space or write elsewhere"
            raise DiskFull(f"no space left on the disk while writing {path}", hint) from error
        if error.errno in DENIED:
            message, hint = f"cannot write {path}: {reason}", "write elsewhere or change its permissions"
        else:
            message, hint = f"cannot write {path}: {reason}", "write elsewhere"
        raise ElimError(message, hint) from error


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that no reader ever sees a part of it, and a crash leaves the old one or the new one.

    Args:
        path: The file; its folder must exist.
        write: Writes the contents to the open file.

    Raises:
        OSError: As the file system has it; the temporary file is gone then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all.

    Raises:
        OSError: As the file system has it.
    """
    write_whole(path, lambda handle: _write_bytes(text.encode(), handle))


def _write_bytes(contents: bytes, handle: BinaryIO) -> None:
    handle.write(contents)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a directory
            raise
    finally:
        os.close(descriptor)
