"""Sort the files of a run directory, and replace an old run by a new one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.files.replacing import NEW, OLD, swap
from elimtool.run.columns import NAMES, Table
from elimtool.run.schema import TABLES, definition

MANIFEST = "run.json"
COMPARISON = "comparison.json"
ANALYSIS_FILE = "analysis.json"
ANALYSIS = "analysis"
"""Folder of a run in which commands keep what they found in it, each in a folder of its own."""
STATE = ".batch"
"""Folder in which ``elimtool batch`` keeps what it needs to resume."""

OF_RUN = b"elimtool.model"
"""Key of the metadata of a run's parts that those of a comparison do not have."""
PART = re.compile(r"part-\d{5,}\.parquet")
TEMPORARY = re.compile(r"\.(part-\d{5,}\.parquet|(run|comparison|analysis)\.json)\.[0-9a-f]+\.tmp")


@dataclass(frozen=True)
class Form:
    """What a run directory, or a comparison directory, consists of.

    Args:
        noun: What messages call it.
        manifest: Name of the manifest, the file that is written last.
        tables: The tables that it may hold, by name.
    """

    noun: str
    manifest: str
    tables: Mapping[str, Table]

    def definition(self, name: str, table: Any) -> Table:
        """Return the definition of a ``pyarrow.Table``; raises ``ValueError`` where it has no such table."""
        if name in self.tables:
            return self.tables[name]
        if self.tables is not TABLES:
            raise ValueError(f"no such table: '{name}'")
        return definition(name, table)


RUN = Form("run", MANIFEST, TABLES)


def part_name(index: int) -> str:
    """Return the file name of a part: ``part-00000.parquet``, ``part-00001.parquet``, ..."""
    return f"part-{index:05d}.parquet"


def parts(folder: Path) -> list[Path]:
    """List the finished parts in a table's folder, by index."""
    # by number: part-100000 comes after part-99999, which sorting by name would get wrong
    found = [path for path in folder.iterdir() if PART.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("part-").removesuffix(".parquet")))


@dataclass(frozen=True)
class Contents:
    """The entries of a directory, sorted by what they are to a run.

    Args:
        manifest: Whether there is a manifest that elimtool wrote, or a damaged one beside tables.
        tables: Folders of tables, with their parts.
        scraps: Temporary files that an interrupted write left.
        foreign: Everything else, except leftover folders of an interrupted replacement.
        intruders: Foreign files inside a table's folder.
        state: Whether ``elimtool batch`` is working or has worked here.
        analyses: Commands that found something in the run, whose findings are kept with it.
        form: What was looked for.
    """

    manifest: bool
    tables: dict[str, list[Path]]
    scraps: list[Path]
    foreign: list[Path]
    intruders: list[Path]
    state: bool = False
    analyses: tuple[str, ...] = ()
    form: Form = RUN

    @property
    def is_run(self) -> bool:
        """Whether there is a run here, finished or not."""
        return self.manifest or self.state or any(self.tables.values())

    @property
    def own(self) -> list[str]:
        """Names of what belongs to the run, the manifest first."""
        names = [self.form.manifest] if self.manifest else []
        names += [STATE] if self.state else []
        names += [ANALYSIS] if self.analyses else []
        return [*names, *sorted(self.tables), *(path.name for path in self.scraps)]


def check_name(directory: Path) -> None:
    """Refuse a directory whose name is not UTF-8: Arrow cannot open files there.

    Raises:
        ElimError: It is not.
    """
    try:
        str(directory).encode()
    except UnicodeEncodeError as error:
        hint = "rename it, or choose another `directory`"
        raise ElimError(
            f"the name {directory} is not UTF-8, and its tables could not be read", hint
        ) from error


def look(directory: Path, form: Form = RUN) -> Contents:
    """Sort the entries of an existing directory into those that belong to one form and the others.

    Raises:
        OSError: The directory cannot be read.
        ElimError: Its name is not UTF-8.
    """
    check_name(directory)
    manifest = directory / form.manifest
    known = set(form.tables) | _counted(manifest)
    markers: tuple[str, ...] = (form.manifest, STATE) if form is RUN else (form.manifest,)
    analyses = _analyses(directory) if form is RUN else ()
    markers += (ANALYSIS,) if analyses else ()
    tables: dict[str, list[Path]] = {}
    scraps, foreign, intruders = [], [], []
    for path in sorted(directory.iterdir()):
        if (
            path.is_dir()
            and not path.is_symlink()
            and (path.name in known or (form is RUN and _is_table(path)))
        ):
            tables[path.name] = parts(path)
            intruders += [child for child in path.iterdir() if not _ours(child)]
        elif TEMPORARY.fullmatch(path.name):
            scraps.append(path)
        elif path.name not in markers and not path.name.startswith((NEW, OLD)):
            foreign.append(path)
    has_manifest = manifest.is_file() and (_is_manifest(manifest) or any(tables.values()))
    if manifest.exists() and not has_manifest:
        foreign.append(manifest)
    state = STATE in markers and (directory / STATE).is_dir()
    return Contents(has_manifest, tables, scraps, foreign, sorted(intruders), state, analyses, form)


def _analyses(directory: Path) -> tuple[str, ...]:
    """Name the commands that have finished an analysis of the run, in order of name."""
    return tuple(sorted(file.parent.name for file in directory.glob(f"{ANALYSIS}/*/{ANALYSIS_FILE}")))


def replace(directory: Path, staging: Path, form: Form = RUN) -> Path:
    """Replace the run in ``directory`` by the one in ``staging``; the old one is moved aside.

    Foreign files stay. Any failure before the end puts the old run back.

    Returns:
        The folder that holds the old run.

    Raises:
        OSError: A file cannot be moved.
    """
    # the manifest moves last: a directory with one is a complete run
    fresh = sorted((path.name for path in staging.iterdir()), key=lambda name: (name == form.manifest, name))
    return swap(directory, staging, look(directory, form).own, fresh)


def _ours(path: Path) -> bool:
    return bool(PART.fullmatch(path.name) or TEMPORARY.fullmatch(path.name)) and path.is_file()


def _is_table(folder: Path) -> bool:
    """Whether a folder holds a plugin's table: parts that elimtool wrote, and nothing else."""
    inside = list(folder.iterdir())
    first = next((one for one in inside if PART.fullmatch(one.name)), None)
    if first is None or not all(map(_ours, inside)):
        return False
    try:
        return {NAMES, OF_RUN} <= (pq.read_schema(first).metadata or {}).keys()
    except (OSError, pa.ArrowException):
        return False


def _load(manifest: Path) -> dict[str, object]:
    try:
        loaded = parse_json(manifest.read_bytes())
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _is_manifest(manifest: Path) -> bool:
    return {"schema_version", "fingerprint"} <= _load(manifest).keys()


def _counted(manifest: Path) -> set[str]:
    """Name the tables that a manifest counts; a newer elimtool may have written some unknown to this one."""
    counts = _load(manifest).get("counts")
    return set(counts) if isinstance(counts, dict) and _is_manifest(manifest) else set()
