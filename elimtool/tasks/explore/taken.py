"""Make files for the user to take along: of a state its report, tables and pictures, of a run its tables."""

from __future__ import annotations

import base64
import io
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.report.figures.draw import DRAW, picture
from elimtool.report.figures.prompt import figures
from elimtool.report.html.page import page
from elimtool.run import layout
from elimtool.tasks.explore.answer import probe_at
from elimtool.tasks.explore.states import TracedState

PICTURES = ("png", "svg")
PIECE = 1 << 20
"""Bytes of a file that are read at a time."""


def report(state: TracedState) -> dict[str, Any]:
    """Write the report of a state, one file that needs nothing else."""
    return _file("report.html", "text/html", page(state.run).encode())


def archive(state: TracedState) -> dict[str, Any]:
    """Pack the run of a state, as ``elimtool trace -o`` writes it, into a ZIP file."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "run"
        state.run.save(written)
        packed = b"".join(zipped(written, files_of(written, layout.RUN)))
    return _file("run.zip", "application/zip", packed)


def files_of(directory: Path, form: layout.Form) -> list[Path]:
    """List the files of a run or comparison: its manifest, its tables, what commands found in it."""
    contents = layout.look(directory, form)
    found = [directory / layout.ANALYSIS / name for name in contents.analyses]
    analyses = sorted(path for folder in found for path in folder.rglob("*") if path.is_file())
    return [
        directory / form.manifest,
        *(path for parts in contents.tables.values() for path in parts),
        *analyses,
    ]


def zipped(directory: Path, files: Sequence[Path]) -> Iterator[bytes]:
    """Pack files below a directory into a ZIP file, piece by piece, so that a large run takes no memory.

    Args:
        directory: Its name is that of the folder in the ZIP file.
        files: Files below it.
    """
    written = _Written()
    with zipfile.ZipFile(written, "w") as packed:  # Parquet is compressed already
        for path in files:
            name = (Path(directory.name) / path.relative_to(directory)).as_posix()
            with path.open("rb") as read, packed.open(name, "w", force_zip64=True) as write:
                while piece := read.read(PIECE):
                    write.write(piece)
                    yield written.taken()
    yield written.taken()


class _Written(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, given: Any, /) -> int:
        self._held += given
        return len(given)

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        found = bytes(self._held)
        self._held.clear()
        return found


def drawing(state: TracedState, position: int, name: str, title: str, form: str) -> dict[str, Any]:
    """Draw a figure for print.

    Args:
        state: What was traced.
        position: Which probed position.
        name: Name of the figure.
        title: Its title, as several may have one name.
        form: ``png`` or ``svg``.

    Raises:
        ElimError: There is no such figure or format, or matplotlib is not installed.
    """
    if form not in PICTURES:
        raise ElimError(f"a picture must be {' or '.join(PICTURES)}, got '{form}'")
    drawn = [one for one in figures(probe_at(state, position)) if one.kind in DRAW]
    found = next((one for one in drawn if (one.name, one.title) == (name, title)), None)
    if found is None:
        raise ElimError(f"there is no picture '{name}'", "take the whole report along")
    kind = "image/png" if form == "png" else "image/svg+xml"
    return _file(f"{name}.{form}", kind, picture(found, form))


def _file(name: str, kind: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "type": kind, "base64": base64.b64encode(content).decode()}
