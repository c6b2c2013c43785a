"""Trace a prompt file to a run directory shard by shard, and resume an interrupted run."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError, Exit
from elimtool.files.writing import DiskFull
from elimtool.run.damage import damage
from elimtool.run.manifest import utc_now
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.place import BatchPlace
from elimtool.tasks.batch.plan import Input, Shard, shards
from elimtool.tasks.batch.scan import Scan
from elimtool.tasks.batch.state import AGAIN, Done, Plan, State

if TYPE_CHECKING:
    from elimtool.run.manifest import Manifest
    from elimtool.tasks.batch.local import Engine

log = logging.getLogger(__name__)

TOTAL = "total.json"
FIRST_WAIT = 1.0
"""Seconds that the first shard waits for the scan of a large file, which may refuse the file."""


@dataclass
class BatchProgress:
    """How far a run is.

    Attributes:
        total: Number of prompts; ``None`` until they are counted.
        resumed: Prompts that earlier runs of the command finished.
        damaged: What was wrong with shards that earlier runs had finished, by shard; they are measured anew.
        shards: Markers of the finished shards by index.
    """

    total: int | None = None
    resumed: int = 0
    damaged: dict[int, list[str]] = field(default_factory=dict)
    shards: dict[int, Done] = field(default_factory=dict)

    @property
    def prompts(self) -> int:
        """Number of finished prompts, error rows included."""
        return sum(one.prompts for one in self.shards.values())

    @property
    def errors(self) -> int:
        """Number of error rows."""
        return sum(one.errors for one in self.shards.values())

    @property
    def tokens(self) -> int:
        """Number of tokens measured."""
        return sum(one.tokens for one in self.shards.values())

    @property
    def padding(self) -> float:
        """Share of token slots that was padding."""
        slots = sum(one.slots for one in self.shards.values())
        return 1 - self.tokens / slots if slots else 0.0

    def summed(self, what: str) -> dict[str, int]:
        """Sum a field over all shards: ``rows`` or ``size`` by table, or ``defects`` by kind."""
        found: dict[str, int] = {}
        for one in self.shards.values():
            for name, number in getattr(one, what).items():
                found[name] = found.get(name, 0) + number
        return found


Report = Callable[[BatchProgress], None]


def run(
    file: Input,
    directory: Path,
    engine: Engine,
    options: BatchOptions,
    *,
    overwrite: bool = False,
    report: Report | None = None,
) -> BatchProgress:
    """Trace a prompt file, or go on where an earlier run of the same command stopped.

    Args:
        file: The prompts.
        directory: The run directory; made if need be.
        engine: Measures the shards.
        options: Options of the run.
        overwrite: Replace a run in the directory.
        report: Called after every shard.

    Returns:
        The progress at the end, with every prompt finished.

    Raises:
        ElimError: The file, the directory or an option cannot be used; the disk is full; too many prompts
            failed. What was finished stays, and the same command goes on.
        KeyboardInterrupt: SIGINT or SIGTERM; likewise.
    """
    with _terminable():
        place = BatchPlace(directory, overwrite)
        with place.held():
            scan = Scan(file, options.dedupe)
            try:
                return _run(_Work(file, place, engine, options, scan, report or (lambda _: None)))
            finally:
                scan.close()
                engine.close()


@dataclass
class _Work:
    file: Input
    place: BatchPlace
    engine: Engine
    options: BatchOptions
    scan: Scan
    report: Report

    @property
    def state(self) -> State:
        return self.place.state


def _run(work: _Work) -> BatchProgress:
    work.engine.start(work.state.directory)
    manifest = _begin(work)
    standing = BatchProgress(shards=work.state.done(), damaged=damage(work.state.directory))
    standing.resumed = standing.prompts
    told: set[str] = set()
    work.scan.check(FIRST_WAIT)
    _count(work, standing)
    work.report(standing)
    try:
        for done in _measured(work, standing, manifest):
            standing.shards[done.shard] = done
            _tell_defects(done, told)
            work.scan.check()
            _count(work, standing)
            work.report(standing)
            _stop_early(work.options, standing)
    except DiskFull as error:
        raise ElimError(
            error.message, f"make space, then {AGAIN}: {standing.prompts:,} prompts are done"
        ) from error
    work.scan.check(None)
    _count(work, standing)
    if standing.total is None:
        standing.total = standing.prompts
        work.state.keep(TOTAL, standing.total)
    _finish(work, standing)
    return standing


def _measured(work: _Work, standing: BatchProgress, manifest: Manifest) -> Iterator[Done]:
    """Measure the pending shards; the first of a new run before anything of an old one is moved."""
    pending = _pending(work, standing)
    if work.place.staging is not None:
        yield from work.engine.run(islice(pending, 1), work.place.staging, manifest)
        work.scan.check(None)  # the whole file, which may be refused
        work.place.settle()
    yield from work.engine.run(pending, work.state.directory, manifest)


def _begin(work: _Work) -> Manifest:
    """Store the plan, or compare it with the stored one."""
    options = work.options
    manifest = work.engine.manifest(
        work.file.sha256(), {"format": work.file.format, **work.file.facts}, utc_now()
    )
    manifest = manifest.model_copy(update={"label": options.label})
    facts: dict[str, Any] = {
        "input": work.file.name,
        "input_bytes": work.file.size,
        "slice": str(options.slice),
        "shard_size": options.shard_size,
    }
    work.state.begin(Plan(manifest, facts))
    work.state.sweep()
    return work.state.plan().manifest


def _pending(work: _Work, standing: BatchProgress) -> Iterator[Shard]:
    known = frozenset(standing.shards)
    for shard in shards(work.file.records(), work.options.shard_size, work.options.dedupe):
        if work.options.slice.has(shard.index) and shard.index not in known:
            yield shard


def _count(work: _Work, standing: BatchProgress) -> None:
    """Work out the number of prompts of this slice, once the scan has counted all."""
    if standing.total is not None or work.scan.total is None:
        return
    size, part = work.options.shard_size, work.options.slice
    if work.options.dedupe and part.count > 1:
        return  # sizes of shards differ, and are known only when the shards are done
    whole, rest = divmod(work.scan.total, size)
    standing.total = size * len(range(part.index, whole, part.count)) + (rest if part.has(whole) else 0)
    work.state.keep(TOTAL, standing.total)


def _stop_early(options: BatchOptions, standing: BatchProgress) -> None:
    if options.max_errors.exceeded(standing.errors, standing.prompts):
        raise ElimError(
            f"stopped: {standing.errors:,} of {standing.prompts:,} prompts failed, past `max_errors`",
            f"table prompts says why; {AGAIN} with a higher `max_errors`",
            Exit.PARTIAL,
        )


def _tell_defects(done: Done, told: set[str]) -> None:
    """Log the traceback of each kind of defect once, whichever process it occurred in."""
    for kind, text in done.tracebacks.items():
        if kind not in told:
            told.add(kind)
            log.error("a defect of elimtool, not of a prompt: %s (shard %d)\n%s", kind, done.shard, text)


def _finish(work: _Work, standing: BatchProgress) -> None:
    state, rows = work.state, standing.summed("rows")
    state.sweep()  # a worker may have been killed on the way
    if not state.is_finished(rows):
        state.finish(state.plan().manifest, rows)
    work.place.finish()


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # others cannot set handlers
        yield
        return

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
