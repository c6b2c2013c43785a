"""Write files atomically: to a temporary file, synced to disk, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from elimtool.errors import ElimError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class DiskFull(ElimError):
    """No space left on the disk; files written before are complete."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn file system errors while writing ``path`` into messages that say what to do.

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
        hint = "write elsewhere or change its permissions" if error.errno in DENIED else "write elsewhere"
        raise ElimError(f"cannot write {path}: {reason}", hint) from error


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that no reader ever sees a part of it, and a crash leaves the old or the new one.

    Args:
        path: The file; its folder must exist.
        write: Function that writes the contents to the open file.

    Raises:
        OSError: From the file system; the temporary file is removed.
    """
    # in the same folder, as a rename is atomic only within a file system
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:  # an interrupt too must leave no temporary file
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all.

    Raises:
        OSError: From the file system.
    """
    write_whole(path, lambda handle: handle.write(text.encode()))


def make_directory(directory: Path) -> list[Path]:
    """Make a directory and its missing parents, and sync each to disk.

    Returns:
        The directories made, the outermost first; none where it is there.

    Raises:
        OSError: From the file system.
    """
    missing = [one for one in (directory, *directory.parents) if not one.exists()][::-1]
    for one in missing:
        one.mkdir(exist_ok=True)
        sync_directory(one.parent)
    return missing


def remove_directories(made: Sequence[Path]) -> None:
    """Remove directories that ``make_directory`` made, the innermost first, as far as they are empty."""
    for one in reversed(made):
        if not one.is_dir() or any(one.iterdir()):
            return
        one.rmdir()


def sync_directory(directory: Path) -> None:
    """Make renames in a directory survive a crash, where the system can."""
    if os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a directory
            raise
    finally:
        os.close(descriptor)
