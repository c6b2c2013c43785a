"""Open a prompt file, detect its format and compression, and read its records."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from elimtool.errors import ElimError, nearest
from elimtool.prompts import source
from elimtool.prompts.formats import Lines, read_csv, read_jsonl, read_parquet, read_text
from elimtool.prompts.prompt import Prompt
from elimtool.prompts.record import HOW, Record

FORMATS = ("jsonl", "csv", "tsv", "parquet", "text")

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
}
COMPRESSED = (".gz", ".gzip", ".zst", ".zstd")


_READERS: dict[str, Callable[[Lines, str], Iterator[Record]]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": partial(read_csv, delimiter="\t"),
    "text": read_text,
}


class PromptFile:
    """A file of prompts, read as a stream, any number of times; a context manager, for standard input.

    The first bytes tell the compression. The name tells the format; where it does not, and for standard
    input, the first bytes do, if they are those of Parquet or of a JSON object.

    Args:
        path: The file; ``-`` is standard input, which is copied to a temporary file first.
        format: One of ``FORMATS``; ``None`` to detect it.
        stdin: Stream that ``-`` reads from.

    Attributes:
        name: Name in messages.
        path: Path of the bytes on disk.
        format: One of ``FORMATS``.
        facts: What else a run of it says about it, beside its format.

    Raises:
        ElimError: The file is missing, empty, of unknown format or not UTF-8, or its header is not valid.
    """

    def __init__(self, path: str | Path, format: str | None = None, stdin: BinaryIO | None = None) -> None:
        if format is not None and format not in FORMATS:
            raise ElimError(f"`format` '{format}' is not valid", nearest(format, FORMATS))
        self._spooled: IO[bytes] | None = None
        self.facts: Mapping[str, Any] = {}
        self.name, self.path = str(path), Path(path)
        if str(path) == "-":
            self.name = "standard input"
            self._spooled, self.path = source.spool(stdin or sys.stdin.buffer)
        try:
            self.compression = self._compression()
            first = self._first_bytes()
            self.format = format or self._find_format(first)
            self._check_start(first)
        except BaseException:  # an interrupt too must delete the copy of standard input
            self.close()
            raise

    def records(self) -> Iterator[Record]:
        """Iterate over all records in order, valid or not.

        Raises:
            ElimError: The file cannot be read to its end, or its header is not valid.
        """
        if self.format == "parquet":
            return read_parquet(self.path, self.name)
        return _READERS[self.format](source.lines(self.path, self.compression, self.name), self.name)

    def sha256(self) -> str:
        """Return the SHA-256 (hexadecimal) of the file's bytes on disk."""
        with source.opening(self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def size(self) -> int:
        """Size on disk in bytes."""
        with source.opening(self.path):
            return self.path.stat().st_size

    def close(self) -> None:
        """Delete the copy of standard input, if there is one."""
        if self._spooled is not None:
            self._spooled.close()

    def __enter__(self) -> PromptFile:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _compression(self) -> str | None:
        try:
            return source.compression_of(self.path)
        except ElimError as error:
            message = error.message.replace(str(self.path), self.name)
            raise ElimError(message, error.hint, error.exit_code) from error

    def _first_bytes(self) -> bytes:
        try:
            with source.open_bytes(self.path, self.compression) as file:
                return file.read(4096)
        except (OSError, EOFError):
            return b""  # damaged: reading the records will say where

    def _find_format(self, first: bytes) -> str:
        suffixes = [suffix.lower() for suffix in self.path.suffixes if suffix.lower() not in COMPRESSED]
        # the copy of standard input has a name of its own, which says nothing
        if self._spooled is None and suffixes and suffixes[-1] in SUFFIXES:
            return SUFFIXES[suffixes[-1]]
        if first.startswith(source.PARQUET):
            return "parquet"
        if first.removeprefix(source.UTF8_BOM).lstrip()[:1] == b"{":
            return "jsonl"
        raise ElimError(
            f"cannot tell the format of {self.name}",
            f"say which with `format`: {', '.join(FORMATS[:-1])} or text",
        )

    def _check_start(self, first: bytes) -> None:
        if self.format == "parquet":
            if self.compression is not None:
                hint = "unpack it; Parquet compresses its columns itself"
                raise ElimError(f"{self.name} is Parquet inside {self.compression}", hint)
            if not first.startswith(source.PARQUET):
                raise ElimError(f"{self.name} is not a Parquet file", "say what it is with `format`")
            return
        # UTF-16 without a mark shows in the zero bytes of ASCII letters
        if first.startswith(source.UTF16) or first[:4].count(0) >= 2:
            hint = "convert it: iconv -f UTF-16 -t UTF-8"
            raise ElimError(f"{self.name} is UTF-16, not UTF-8", hint)
        if first.startswith(source.PARQUET) or b"\0" in first:
            raise ElimError(f"{self.name} is not text", "say what it is with `format`")
        if self.format == "jsonl" and first.removeprefix(source.UTF8_BOM).lstrip()[:1] == b"[":
            raise ElimError(f"{self.name}:1: the file is one JSON list, not one object a line", HOW)


def read_prompts(path: str | Path, format: str | None = None) -> tuple[list[Prompt], dict[str, ElimError]]:
    """Read the prompts of a file, and by id what is wrong with its other records.

    Args:
        path: The file.
        format: One of ``FORMATS``; without, by its name.

    Raises:
        ElimError: The file or one of its records is not valid, or it has no records.
    """
    prompts: list[Prompt] = []
    unread: dict[str, ElimError] = {}
    with PromptFile(path, format) as file:
        for record in file.records():
            if isinstance(record.prompt, ElimError):
                unread[record.prompt_id or f"<line {record.line}>"] = record.prompt
            else:
                prompts.append(record.prompt)
    if not prompts and not unread:
        raise ElimError(f"{path} holds no record", "put at least one prompt into it")
    return prompts, unread
