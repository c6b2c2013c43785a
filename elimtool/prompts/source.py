"""Read a prompt file as decompressed lines, without holding it whole in memory."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from elimtool.errors import ElimError

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
PARQUET = b"PAR1"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
UTF8_BOM = b"\xef\xbb\xbf"

MAX_LINE = 8 * 2**20
"""Longest line that is read, in bytes; longer ones are records that are not valid."""


def compression_of(path: Path) -> str | None:
    """Tell from the first bytes whether a file is ``gzip``, ``zstd`` or neither.

    Raises:
        ElimError: The file is missing, empty, or cannot be read.
    """
    with opening(path), path.open("rb") as file:
        first = file.read(4)
    if not first:
        raise ElimError(f"{path} is empty", "give a file with at least one record")
    if first.startswith(GZIP):
        return "gzip"
    return "zstd" if first == ZSTD else None


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Turn file system errors about ``path`` into messages.

    Raises:
        ElimError: The file is missing, a directory, or cannot be read.
    """
    try:
        yield
    except OSError as error:
        hint = "check the name" if isinstance(error, FileNotFoundError) else ""
        raise ElimError(f"cannot read {path}: {error.strerror or error}", hint) from error
    except ValueError as error:  # a path with a NUL
        raise ElimError(f"cannot read {str(path)!r}: {error}") from error


def open_bytes(path: Path, compression: str | None) -> BinaryIO:
    """Open the decompressed bytes of a file."""
    with opening(path):
        if compression == "gzip":
            return cast(BinaryIO, gzip.open(path, "rb"))
        if compression == "zstd":
            import pyarrow as pa

            return io.BufferedReader(_Raw(pa.input_stream(str(path), compression="zstd")), 1 << 20)
        return path.open("rb", buffering=1 << 20)


def lines(path: Path, compression: str | None, name: str) -> Iterator[tuple[int, bytes | None]]:
    """Iterate over lines: number (from 1) and bytes with line end, ``None`` if longer than ``MAX_LINE``.

    A byte-order mark is dropped.

    Raises:
        ElimError: The file cannot be read to its end; the message says where.
    """
    number = 0
    try:
        with open_bytes(path, compression) as file:
            while line := file.readline(MAX_LINE):
                number += 1
                if number == 1:
                    line = line.removeprefix(UTF8_BOM)
                # skipped in pieces: a file without line ends would fill the memory
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    _skip(file)
                    yield number, None
                else:
                    yield number, line
    except (EOFError, OSError, zlib.error) as error:
        kind = f"its {compression} stream is damaged or ends early" if compression else str(error)
        raise ElimError(
            f"{name}: cannot read on after line {number}: {kind}", "fetch or write the file again"
        ) from error


def _skip(file: BinaryIO) -> None:
    """Skip the rest of a line."""
    while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
        pass


def spool(stream: BinaryIO, folder: Path | None = None) -> tuple[IO[bytes], Path]:
    """Copy a stream that can be read only once to a temporary file, which is deleted when closed.

    Raises:
        ElimError: The temporary file cannot be written.
    """
    try:
        file = tempfile.NamedTemporaryFile(prefix="elimtool-prompts-", dir=folder)  # noqa: SIM115
        shutil.copyfileobj(stream, file, 1 << 20)
        file.flush()
    except OSError as error:
        where = folder or tempfile.gettempdir()
        raise ElimError(
            f"cannot keep standard input in {where}: {error.strerror or error}",
            "set TMPDIR to a folder with space, or give a file",
        ) from error
    return file, Path(file.name)


class _Raw(io.RawIOBase):
    """Adapter of Arrow's stream for ``io.BufferedReader``."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._stream.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._stream.close()
        super().close()
