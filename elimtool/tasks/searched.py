"""Keep what a search has measured, piece by piece, so that one that was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from elimtool.errors import ElimError
from elimtool.files.writing import make_directory, writing
from elimtool.run import Run, layout, open_run
from elimtool.run.manifest import Manifest
from elimtool.run.writer import check_directory
from elimtool.tasks.batch.state import State

PIECES = "search"
"""Folder of pieces in a directory's state."""
SHOWN = 32
"""Digits of a fingerprint that name a piece."""


class KeptPieces:
    """Pieces of an unfinished run, each kept under the fingerprint of what was measured.

    A search asks for its pieces in an order that its seed fixes, so one that begins anew finds those that
    are there; what another search left is not found, and not used.

    Args:
        directory: The run directory.
        overwrite: Replace the run that is there, when the new one is finished.

    Attributes:
        reused: Number of pieces that were there.
    """

    def __init__(self, directory: Path, overwrite: bool = False) -> None:
        self.directory = directory
        self.state = State(directory)
        self.folder = self.state.folder / PIECES
        if not begun(directory):
            check_directory(directory, overwrite)
        self.reused = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory for this process.

        Raises:
            Busy: Another process holds it.
            ElimError: It cannot be written.
        """
        with writing(self.folder):
            make_directory(self.folder)
        with self.state.locked():
            yield

    def piece(self, facts: Manifest, measure: Callable[[], Run]) -> Run:
        """Read a piece, or measure and keep it; either way it is read from its files.

        Args:
            facts: What the piece is of.
            measure: Measures it.

        Raises:
            ElimError: It cannot be written.
        """
        path = self.folder / facts.fingerprint[:SHOWN]
        try:
            found = open_run(path)
            same = found.manifest.fingerprint == facts.fingerprint
            if same and all(found.arrow(name).num_rows >= 0 for name in found.tables):
                self.reused += 1
                return found
        except ElimError:  # not there, or damaged
            pass
        measure().save(path, overwrite=True)
        return open_run(path)

    def finish(self, run: Run) -> None:
        """Write the whole run in the place of its pieces.

        Raises:
            ElimError: It cannot be written; the pieces are still there.
        """
        run.save(self.directory, overwrite=True)


def begun(directory: Path) -> bool:
    """Return whether a search was begun in a directory and is not finished."""
    pieces = directory / layout.STATE / PIECES
    return pieces.is_dir() and not (directory / layout.MANIFEST).is_file()
