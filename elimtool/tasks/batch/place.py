"""Make the directory of a batch ready: new, to go on with, or to be replaced once there is something new."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from shutil import rmtree

from elimtool.errors import ElimError
from elimtool.files.replacing import drop, earlier, put_back, stage
from elimtool.files.writing import make_directory, sync_directory, writing
from elimtool.run import layout
from elimtool.run.writer import check_contents
from elimtool.tasks.batch.state import State


class Untouched(KeyboardInterrupt):
    """Interrupted before the new run had a shard: the old one is as it was, nothing of the new is left."""


class BatchPlace:
    """Where a batch is written: its directory, or a folder of it until the new run has its first shard.

    Args:
        directory: The run directory; made if need be.
        overwrite: Replace the run that is there.

    Raises:
        ElimError: The directory holds something else, or cannot be written.
    """

    def __init__(self, directory: Path, overwrite: bool) -> None:
        self.directory = directory
        self.staging: Path | None = None
        with writing(directory):
            if directory.exists():
                if _check(directory, overwrite):
                    self.staging = stage(directory)
            else:
                layout.check_name(directory)
                make_directory(directory)
            self.state = State(self.staging or directory)
            if not self.state.folder.is_dir():
                self.state.folder.mkdir()
                sync_directory(self.state.directory)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the place for this process; an unfinished replacement that is not in place yet is dropped.

        Raises:
            Busy: Another process holds it.
            ElimError: The lock cannot be written.
            Untouched: Interrupted before anything was replaced.
        """
        with self.state.locked():
            try:
                yield
            except KeyboardInterrupt as interrupt:
                raise (Untouched if self.staging else type(interrupt)) from interrupt
            finally:
                if self.staging is not None:
                    rmtree(self.staging, ignore_errors=True)

    def settle(self) -> None:
        """Put a new run that has its first shard into its place; the old one is moved aside.

        Raises:
            Busy: Another process is at work in the directory.
            ElimError: A file cannot be moved; the old run is at its place.
        """
        if self.staging is None:
            return
        old = State(self.directory)
        with old.locked() if old.folder.is_dir() else nullcontext(), writing(self.directory):
            layout.replace(self.directory, self.staging)
        self.staging, self.state = None, old

    def finish(self) -> None:
        """Delete what was replaced, now that the new run is complete."""
        drop(self.directory)


def replaced(directory: Path) -> str:
    """Say where the run is that a batch under way replaces; empty where there is none."""
    kept = earlier(directory) if directory.is_dir() else []
    return f"the run that was there is in {kept[-1]} until the new one is finished" if kept else ""


def _check(directory: Path, overwrite: bool) -> bool:
    """Refuse a directory that cannot be used; return whether it holds a run to replace."""
    if not directory.is_dir():
        raise ElimError(f"{directory} is a file, not a directory", "choose another `directory`")
    put_back(directory)
    contents = layout.look(directory)
    if contents.is_run and overwrite:
        if contents.state and State(directory).is_locked():
            raise ElimError(f"another process is at work in {directory}", "choose another `directory`")
        check_contents(directory, contents, overwrite)
        return True
    if contents.is_run and not contents.state:
        hint = "choose another `directory`, or replace it with `overwrite`"
        raise ElimError(f"{directory} holds a run that elimtool batch did not write", hint)
    if contents.foreign and not contents.is_run:
        raise ElimError(
            f"{directory} is not empty: it holds '{contents.foreign[0].name}'", "choose another `directory`"
        )
    return False
