"""Keep the state of a batch in its run directory: plan, a marker per finished shard, lock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.files.writing import write_text, writing
from elimtool.run import layout
from elimtool.run.damage import MARKERS, faults
from elimtool.run.manifest import Manifest

PLAN = "plan.json"
LOCK = "lock"
AGAIN = "run the same command again to go on"


@dataclass(frozen=True, slots=True)
class Done:
    """The marker of a finished shard: its parts are on disk.

    Attributes:
        shard: Index of the shard.
        prompts: Number of records.
        errors: Number of error rows.
        tokens: Tokens of the prompts measured.
        slots: Token slots of the forward passes, padding included.
        seconds: Wall-clock time.
        rows: Rows by table.
        size: Bytes by table.
        digest: SHA-256 of the part by table; an earlier elimtool wrote none.
        defects: Number of errors that no prompt explains, by kind.
        tracebacks: Traceback of the first of each kind.
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
    digest: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The run that a directory was begun with.

    Attributes:
        manifest: What is run; neither finished nor counted.
        facts: Name and size of the input, slice and shard size, which the manifest does not hold.
    """

    manifest: Manifest
    facts: Mapping[str, Any]

    @property
    def compared(self) -> dict[str, Any]:
        """The manifest without times and counts: equal where two runs measure the same."""
        return self.manifest.model_dump(exclude={"started", "finished", "counts"})


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
            found = parse_json(path.read_text(encoding="utf-8"))
            manifest = Manifest.from_json(json.dumps(found["manifest"]), str(path))
            facts = found["facts"]
            return Plan(manifest, {"input": facts["input"], "slice": facts["slice"], **facts})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ElimError(
                f"{self.directory} is not the directory of a batch: cannot read {path}",
                "give the directory that the batch was written to",
            ) from error

    def begin(self, plan: Plan) -> None:
        """Store the plan, or refuse a directory that was begun with another one.

        Raises:
            ElimError: The run in the directory differs; the message says where.
        """
        if self.is_there:
            self._compare(plan)
            return
        text = json.dumps({"manifest": plan.manifest.to_dict(), "facts": dict(plan.facts)}, indent=1)
        with writing(self.folder / PLAN):
            write_text(self.folder / PLAN, text + "\n")

    def _compare(self, plan: Plan) -> None:
        # the key in backquotes is the name that the message gives to the slice
        old, new = ({**one.compared, "`shard`": one.facts["slice"]} for one in (self.plan(), plan))
        differing = differences(old, new)
        if differing:
            raise ElimError(
                f"{self.directory} was begun with other {_named(differing)}",
                "give what it was begun with, choose another `directory`, or start anew with `overwrite`",
            )

    def done(self) -> dict[int, Done]:
        """Read the markers by shard; a shard whose marker or parts are damaged counts as not done."""
        found: dict[int, Done] = {}
        for path in self.folder.glob(MARKERS):
            try:
                one = Done(**parse_json(path.read_text(encoding="utf-8")))
                if not faults(self.directory, asdict(one)):
                    found[one.shard] = one
            except (OSError, ValueError, TypeError, AttributeError):
                continue
        return dict(sorted(found.items()))

    def mark(self, done: Done) -> None:
        """Write the marker of a shard whose parts are on disk.

        Raises:
            ElimError: The disk is full or refuses.
        """
        path = self.folder / f"shard-{done.shard:05d}.json"
        with writing(path):
            write_text(path, json.dumps(asdict(done)) + "\n")

    def sweep(self) -> None:
        """Remove half-written files of processes that were killed; no worker may be running.

        Raises:
            ElimError: A file cannot be removed.
        """
        with writing(self.directory):
            contents = layout.look(self.directory)
            found = [*contents.scraps, *self.folder.glob(".*.tmp")]
            for name in contents.tables:
                found += (self.directory / name).glob(".part-*.tmp")
            for path in found:
                path.unlink(missing_ok=True)

    def keep(self, name: str, value: Any) -> None:
        """Store a small value, such as the number of prompts, for later runs and for ``status``."""
        with writing(self.folder / name):
            write_text(self.folder / name, json.dumps(value) + "\n")

    def kept(self, name: str) -> Any:
        """Read what ``keep`` stored; ``None`` if nothing."""
        try:
            return parse_json((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def is_finished(self, rows: dict[str, int]) -> bool:
        """Whether ``run.json`` is there, whole, and counts these rows by table."""
        path = self.directory / layout.MANIFEST
        try:
            found = Manifest.from_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, ValueError, ElimError):
            return False
        return found.finished is not None and dict(found.counts) == rows

    def finish(self, manifest: Manifest, rows: dict[str, int]) -> None:
        """Write ``run.json``, which makes the directory a finished run.

        Args:
            manifest: The manifest, neither finished nor counted.
            rows: Rows by table.
        """
        path = self.directory / layout.MANIFEST
        with writing(path):
            write_text(path, manifest.finish(rows).to_json())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process; the system releases the lock of a killed one.

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
            ElimError: The lock cannot be written, so it is not known.
        """
        try:
            with self.locked():
                return False
        except Busy:
            return True


def differences(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """List where two nested values differ: path, old value, new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found += differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        return found
    return [] if old == new else [(name, old, new)]


_WORDS = {"config.prompts_sha256": "prompts", "weights_sha256": "weights", "tokenizer_sha256": "tokenizer"}


def _named(differing: list[tuple[str, Any, Any]]) -> str:
    """Put the differences in words; those that follow from others are left out."""
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
