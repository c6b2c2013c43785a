"""Make files and directories appear whole or not at all: build them aside under a lock, then rename."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from elimtool.errors import ElimError

Progress = Callable[[str], None]
"""Called with a line that says what is being done; for slow work again after every tenth."""

T = TypeVar("T")

CACHE_VARIABLE = "ELIMTOOL_CACHE"


def in_tenths(progress: Progress | None, what: str) -> Callable[[float], None]:
    """Return a function that takes the share done and reports ``what`` once for every tenth."""
    told = -1

    def tell(fraction: float) -> None:
        nonlocal told
        if progress and (tenth := int(fraction * 10)) > told:
            told = tenth
            progress(f"{what}: {tenth * 10} %")

    return tell


def ensure_directory(directory: Path) -> Path:
    """Create ``directory`` if needed.

    Raises:
        ElimError: It cannot be created or written to.
    """
    with reported(directory):
        directory.mkdir(parents=True, exist_ok=True)  # which accepts a directory that is read-only
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
    return directory


def require_space(directory: Path, needed: int) -> None:
    """Check that ``needed`` bytes are free on the disk of ``directory``, which exists.

    Raises:
        ElimError: They are not.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise disk_full(directory, needed, free)


def disk_full(directory: Path, needed: int | None = None, free: int | None = None) -> ElimError:
    """Make the error for a full disk: how much is needed, where, and how to move the cache."""
    amount = f": about {_size(needed)} needed" if needed else ""
    left = f", {_size(free)} free" if free is not None else ""
    return ElimError(
        f"no space left in {directory}{amount}{left}",
        f"free some space, or set {CACHE_VARIABLE} to a directory on a larger disk",
    )


@contextmanager
def reported(directory: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into errors with a next step.

    Raises:
        ElimError: The disk is full, or a directory or file may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(directory, needed) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise ElimError(
                f"cache directory {directory} is not writable: {error.strerror}",
                f"set {CACHE_VARIABLE} to a directory that you can write to",
            ) from error
        raise


@contextmanager
def locked(target: Path, progress: Progress | None = None) -> Iterator[None]:
    """Hold the lock of ``target``, waiting for another process that builds it.

    The lock is the operating system's, so it is released even when the process is killed.
    """
    from filelock import FileLock, Timeout

    ensure_directory(target.parent)
    lock = FileLock(target.parent / f".{target.name}.lock")
    with reported(target.parent):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                progress(f"waiting for another process that prepares {target.name}")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def kept(path: Path, read: Callable[[Path], T], make: Callable[[], None], progress: Progress | None) -> T:
    """Read a file of the cache; make it first if it is not there, and anew if it is damaged.

    Reading takes no lock, so that a cache which somebody else may write serves too. Of two processes at once
    one makes the file and the other waits.

    Args:
        path: The file.
        read: Reads it; raises ``ElimError`` if it is damaged.
        make: Writes it, whole or not at all.
        progress: Called while it waits.

    Raises:
        ElimError: The cache cannot be written.
    """
    if path.is_file():
        with suppress(ElimError):
            return read(path)
    with locked(path, progress):
        if path.is_file():  # damaged, unless another process has made it meanwhile
            with suppress(ElimError):
                return read(path)
            warn_damaged(path)
        make()
    return read(path)


def warn_damaged(target: Path) -> None:
    """Say that a part of the cache is made anew."""
    warnings.warn(f"{target} in the cache is damaged, and is made anew", UserWarning, stacklevel=3)


@contextmanager
def built_aside(target: Path, needed: int | None = None) -> Iterator[Path]:
    """Yield a hidden directory beside ``target`` that becomes ``target`` when the block succeeds.

    Callers must hold the lock of ``target``: leftovers of killed attempts are removed first.

    Args:
        target: The directory to build; an existing one is replaced.
        needed: Bytes that the block will write, for the message of a full disk.
    """
    ensure_directory(target.parent)
    for leftover in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with reported(target.parent, needed):
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield aside
            for path in (aside, *aside.rglob("*")):
                shared(path)
            _flush(aside)
            if target.exists():
                shutil.rmtree(target)
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON under a temporary name and rename it, so that readers see the old file or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, sort_keys=True)
        shared(Path(name))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def shared(path: Path) -> None:
    """Let all whom the umask lets read a part of the cache: temporary ones are their owner's alone."""
    if path.is_symlink():  # what it points to is not the cache's
        return
    mask = os.umask(0o022)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def _flush(directory: Path) -> None:
    """Force files to disk before the rename that makes them visible, so that a power cut leaves no holes."""
    for path in directory.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
