"""What a run over a prompt file keeps beside its tables: its plan, a marker a finished shard, a lock."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.writing import sync_directory, write_text, writing
from elimtool.run import layout
from elimtool.run.manifest import Manifest

PLAN = "plan.json"
LOCK = "lock"
AGAIN = "run the same command again to go on"


@dataclass(frozen=True, slots=True)
class Done:
    """The marker of a finished shard: its parts are on disk.

    Attributes:
        shard: Index of the shard.
        prompts: Records of the shard.
        errors: Those that are error rows.
        tokens: Tokens of the prompts measured.
        slots: Token slots of the forward passes.
        seconds: Wall-clock time that it took.
        rows: Rows by table.
        size: Bytes by table.
        defects: How often each kind of error was met that no prompt explains.
        tracebacks: The first of each kind.
    """

    shard: int
    prompts: int
    errors: int
    tokens: int
    slots: int
    seconds: float
    rows: Mapping[str, int]
    size: Mapping[str, int]
    defects: Mapping[str, int] = field(default_factory=dict)
    tracebacks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run directory is for.

    Attributes:
        manifest: What is run, without times and counts.
        facts: What the manifest does not hold: name and size of the input, slice, shard size, start.
    """

    manifest: Manifest
    facts: Mapping[str, Any]


class Busy(ElimError):
    """Another process holds the directory."""


class State:
    """The folder ``.batch`` of a run directory.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.folder = self.directory / layout.STATE

    @property
    def is_there(self) -> bool:
        """Whether a batch was begun in the directory."""
        return (self.folder / PLAN).is_file()

    def plan(self) -> Plan:
        """The plan of the run that was begun here.

        Raises:
            ElimError: There is none, or it is damaged.
        """
        path = self.folder / PLAN
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            manifest = Manifest.from_json(json.dumps(found["manifest"]), str(path))
            return Plan(manifest, found["facts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ElimError(
                f"{self.directory} is not the directory of a batch: cannot read {path}",
                "give the directory that the batch was written to",
            ) from error

    def begin(self, plan: Plan) -> None:
        """Keep the plan, or refuse a directory that was begun with another one.

        Raises:
            ElimError: The run in the directory differs; the message says in what.
        """
        if self.is_there:
            self._compare(plan)
            return
        text = json.dumps({"manifest": plan.manifest.to_dict(), "facts": dict(plan.facts)}, indent=1)
        with writing(self.folder / PLAN):
            write_text(self.folder / PLAN, text + "\n")

    def _compare(self, plan: Plan) -> None:
        old = self.plan()
        differing = differences(_facts(old), _facts(plan))
        if differing:
            raise ElimError(
                f"{self.directory} was begun with other {_named(differing)}",
                "give what it was begun with, choose another `directory`, or start anew with `overwrite`",
            )

    def done(self) -> dict[int, Done]:
        """Markers by shard; one that is damaged, or whose parts are gone, counts as missing."""
        found: dict[int, Done] = {}
        for path in self.folder.glob("shard-*.json"):
            try:
                one = Done(**json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                continue
            if all((self.directory / name / layout.part_name(one.shard)).is_file() for name in one.rows):
                found[one.shard] = one
        return dict(sorted(found.items()))

    def mark(self, done: Done) -> None:
        """Say that a shard's parts are on disk.

        Raises:
            ElimError: The disk is full or refuses.
        """
        path = self.folder / f"shard-{done.shard:05d}.json"
        with writing(path):
            write_text(path, json.dumps(asdict(done)) + "\n")

    def sweep(self) -> None:
        """Remove the half-written files of processes that were killed; no worker may be at work.

        Raises:
            ElimError: The system refuses.
        """
        with writing(self.directory):
            contents = layout.look(self.directory)
            found = [*contents.scraps, *self.folder.glob(".*.tmp")]
            for name in contents.tables:
                found += (self.directory / name).glob(".part-*.tmp")
            for path in found:
                path.unlink(missing_ok=True)

    def keep(self, name: str, value: Any) -> None:
        """Keep a small finding, such as the number of prompts, for later runs and for status."""
        with writing(self.folder / name):
            write_text(self.folder / name, json.dumps(value) + "\n")

    def kept(self, name: str) -> Any:
        """What ``keep`` kept; ``None`` if nothing."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for one process; a killed one lets go of it.

        Raises:
            Busy: Another process holds it.
            ElimError: The lock cannot be written.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / LOCK)
        with writing(self.folder / LOCK):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise Busy(
                    f"another process is at work in {self.directory}",
                    f"wait for it (elimtool run status {self.directory}), or choose another `directory`",
                ) from error
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether a process is at work here.

        Raises:
            ElimError: The lock cannot be written, without which nobody can tell.
        """
        try:
            with self.locked():
                return False
        except Busy:
            return True


def prepare(directory: Path, overwrite: bool) -> State:
    """Make a directory ready for a run, or to go on with one.

    Raises:
        ElimError: It holds something else, or cannot be written.
    """
    if not directory.parent.is_dir():
        raise ElimError(
            f"the folder {directory.parent} does not exist", "make it first, or choose another `directory`"
        )
    state = State(directory)
    with writing(directory):
        if directory.exists():
            _check(directory, overwrite)
        else:
            directory.mkdir()
            sync_directory(directory.parent)
        if not state.folder.is_dir():
            state.folder.mkdir()
            sync_directory(directory)
    return state


def _check(directory: Path, overwrite: bool) -> None:
    if not directory.is_dir():
        raise ElimError(f"{directory} is a file, not a directory", "choose another `directory`")
    contents = layout.look(directory)
    if contents.is_run and overwrite:
        if contents.state and State(directory).is_locked():
            raise ElimError(f"another process is at work in {directory}", "choose another `directory`")
        for name in contents.own:
            path = directory / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif contents.is_run and not contents.state:
        hint = "choose another `directory`, or replace it with `overwrite`"
        raise ElimError(f"{directory} holds a run that elimtool batch did not write", hint)
    elif contents.foreign and not contents.is_run:
        raise ElimError(
            f"{directory} is not empty: it holds '{contents.foreign[0].name}'", "choose another `directory`"
        )


def _facts(plan: Plan) -> dict[str, Any]:
    manifest = plan.manifest.model_dump(exclude={"started", "finished", "counts"})
    return {**manifest, "`shard`": plan.facts["slice"]}


def differences(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Where two nested values differ: path, old value, new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found += differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        return found
    return [] if old == new else [(name, old, new)]


_WORDS = {"config.prompts_sha256": "prompts", "weights_sha256": "weights", "tokenizer_sha256": "tokenizer"}


def _named(differing: list[tuple[str, Any, Any]]) -> str:
    """The differences in words; what follows from another one is left out."""
    parts = []
    for name, old, new in differing:
        if name in _WORDS:
            parts.append(_WORDS[name])
        elif name != "chains":
            parts.append(f"{name.removeprefix('config.')} ({_short(old)}, now {_short(new)})")
    return "; ".join(parts or ["sampler chains"])


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
