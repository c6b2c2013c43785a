"""Write a run directory: tables part by part, ``run.json`` last, never half a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, Self, TypeVar

import pyarrow.parquet as pq

from elimtool.errors import ElimError
from elimtool.files.replacing import drop, put_back, stage
from elimtool.files.writing import (
    make_directory,
    remove_directories,
    sync_directory,
    write_text,
    write_whole,
    writing,
)
from elimtool.run import layout
from elimtool.run.columns import NAMES
from elimtool.run.manifest import BaseManifest

ROW_GROUP = 1 << 17
"""Rows per row group: large enough to compress, small enough to skip."""


M = TypeVar("M", bound=BaseManifest)


class RunWriter(Generic[M]):
    """Context manager that writes one run or one comparison.

    A missing directory is made, with its parents. With ``overwrite`` the new run is written into a hidden
    folder of the directory and replaces the old one in ``finish``; until then the old run stays as it is.
    Leaving without ``finish`` calls ``abort``.

    Args:
        directory: The run directory (``-o``).
        manifest: What is run; ``finish`` fills in times and counts.
        overwrite: Replace the run that is there. Files that elimtool did not write stay.
        form: What is written.

    Raises:
        ElimError: The directory is not empty, not a directory, or cannot be written.
    """

    def __init__(
        self,
        directory: str | Path,
        manifest: M,
        overwrite: bool = False,
        form: layout.Form = layout.RUN,
    ) -> None:
        self.path = Path(directory)
        self.manifest = manifest
        self.form = form
        self._rows: dict[tuple[str, int], int] = {}
        self._finished = False
        self._made = _prepare(self.path, overwrite, form)
        self._data = self.path
        if overwrite and not self._made:
            with writing(self.path):
                self._data = stage(self.path)

    def write_part(self, table_name: str, part_index: int, table: Any, *, checked: bool = False) -> Path:
        """Write one part of one table; writing the same part again replaces it.

        Args:
            table_name: A table of the form.
            part_index: Which part, from 0.
            table: A ``pyarrow.Table`` with exactly the columns and types of the schema.
            checked: Whether the table was checked against its schema already, as those of a ``Run`` are.

        Returns:
            The file written.

        Raises:
            ValueError, TypeError: The table does not fit its schema (a bug of the caller).
            ElimError: The disk is full or refuses.
        """
        if part_index < 0 or self._finished:
            raise ValueError(
                f"no part {part_index} of '{table_name}' can be written (finished: {self._finished})"
            )
        if not checked:
            table = self.form.definition(table_name, table).conform(table)
        path = write_part(self._data, self.manifest, table_name, part_index, table)
        self._rows[table_name, part_index] = table.num_rows
        return path

    def finish(self, finished: str | None = None) -> M:
        """Write the manifest and, with ``overwrite``, put the new run in the old one's place.

        Args:
            finished: When the run ended (ISO 8601; default: now).

        Returns:
            The manifest as written, with counts and times.

        Raises:
            ElimError: The disk is full or refuses; a run to be replaced is still there.
        """
        counts: dict[str, int] = {}
        for (name, _), rows in self._rows.items():
            counts[name] = counts.get(name, 0) + rows
        self.manifest = self.manifest.finish(counts, finished)
        with writing(self.path / self.form.manifest):
            write_text(self._data / self.form.manifest, self.manifest.to_json())
            if self._data != self.path:
                layout.replace(self.path, self._data, self.form)
                drop(self.path)
        self._finished = True
        return self.manifest

    def abort(self) -> None:
        """Give up: drop an unfinished replacement, and empty directories that were made for the run.

        Finished parts of a new run stay on disk.
        """
        if self._finished:
            return
        if self._data != self.path:
            shutil.rmtree(self._data, ignore_errors=True)
        else:
            remove_directories(self._made)
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def write_part(
    folder: Path,
    manifest: BaseManifest,
    table_name: str,
    part_index: int,
    table: Any,
) -> Path:
    """Write one part of one table into a run's folder; a reader sees the whole part or none.

    Args:
        folder: The run directory.
        manifest: Its facts go into the file's metadata.
        table_name: Name of the table.
        part_index: Which part, from 0; an existing one is replaced.
        table: A table that was checked, by a ``Run`` or ``Table.from_rows``.

    Raises:
        ElimError: The disk is full or refuses.
    """
    whole = table.combine_chunks()
    names = {NAMES: json.dumps(whole.column_names)}
    facts = {**whole.schema.metadata, **manifest.parquet_metadata(), **names}
    whole = whole.replace_schema_metadata(facts)
    path = folder / table_name / layout.part_name(part_index)
    with writing(path):
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            sync_directory(folder)
        write_whole(path, lambda handle: _write_parquet(whole, handle))
    return path


def check_directory(directory: str | Path, overwrite: bool = False, form: layout.Form = layout.RUN) -> None:
    """Refuse, before any work, a directory that ``RunWriter`` would refuse; leave nothing behind.

    Raises:
        ElimError: As ``RunWriter``.
    """
    remove_directories(_prepare(Path(directory), overwrite, form))


def _prepare(directory: Path, overwrite: bool, form: layout.Form) -> list[Path]:
    """Check that a run may be written here; return the directories that were missing and are made now."""
    layout.check_name(directory)
    with writing(directory):
        if not directory.exists() and not directory.is_symlink():
            return make_directory(directory)
        if not directory.is_dir():
            raise ElimError(f"{directory} is a file, not a directory", "choose another `directory`")
        put_back(directory)
        contents = layout.look(directory, form)
        check_contents(directory, contents, overwrite)
        stage(directory).rmdir()  # fails now, not after the work
    return []


def check_contents(directory: Path, contents: layout.Contents, overwrite: bool) -> None:
    """Refuse a directory that holds a run, unless it is to be replaced, or what elimtool did not write.

    Raises:
        ElimError: Says what is there.
    """
    if contents.is_run and not overwrite:
        noun = contents.form.noun
        kind = f"a {noun}" if contents.manifest else f"an unfinished {noun}"
        raise ElimError(f"{directory} already holds {kind}", "choose another `directory` or pass `overwrite`")
    if contents.foreign and not contents.is_run:
        only = f"; `overwrite` replaces {contents.form.noun}s only"
        hint = f"choose another `directory`{only}" if overwrite else "choose another `directory`"
        raise ElimError(f"{directory} is not empty: it holds '{contents.foreign[0].name}'", hint)
    if contents.intruders:
        hint = "move it away or choose another `directory`"
        raise ElimError(f"elimtool did not write {contents.intruders[0]} and will not remove it", hint)


def _write_parquet(table: Any, handle: BinaryIO) -> None:
    pq.write_table(
        table,
        handle,
        row_group_size=ROW_GROUP,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=True,
        write_statistics=True,
        store_schema=True,
    )
