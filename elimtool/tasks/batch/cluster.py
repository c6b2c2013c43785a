"""Run shards on a Ray cluster, one model per actor; replace workers that die."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError, Exit
from elimtool.tasks.batch.links import links_of
from elimtool.tasks.batch.member import Member
from elimtool.tasks.batch.preflight import capacity, check_visible, connect, first_line, ray_module
from elimtool.tasks.batch.state import AGAIN
from elimtool.tasks.batch.work import give_up

if TYPE_CHECKING:
    from elimtool.model.source import ModelSource
    from elimtool.run.manifest import Manifest
    from elimtool.tasks.batch.options import BatchOptions
    from elimtool.tasks.batch.plan import Shard
    from elimtool.tasks.batch.state import Done
    from elimtool.tasks.batch.work import Make, Wanted

PATIENCE = 120.0
"""Seconds without any living worker after which a run gives up."""
MEMORY = "lower `batch_size`, or leave more memory for each worker with fewer `actors` or more `cpus`"


class RayEngine:
    """Measure shards on a Ray cluster.

    Args:
        source: How each worker loads the model.
        asked: What to measure.
        batch: Options of the run; ``batch.ray`` names the cluster and the workers' resources.
        patience: Seconds without any living worker after which a run gives up.
        make: Makes each worker; ``None`` for one that traces prompts.

    Attributes:
        nodes: Number of finished shards by node.
        lost: Number of workers that died.
        idle: Workers that wait for a shard.
        ray: The package ``ray``, once it is connected.
        links: What the connection hangs on, likewise.
    """

    def __init__(
        self,
        source: ModelSource,
        asked: Wanted,
        batch: BatchOptions,
        patience: float = PATIENCE,
        make: Make | None = None,
    ) -> None:
        self.source, self.asked, self.batch, self.patience, self.make = source, asked, batch, patience, make
        self.nodes: dict[str, int] = {}
        self.lost = 0
        self.ray: Any = None
        self._ours = False
        self._starting: dict[Any, tuple[Any, Any]] = {}  # actor and proof of its place, by what loads
        self._replacements = self._in_vain = 0
        self._alive = time.monotonic()
        self._why: Exception | None = None
        self.idle: deque[Any] = deque()

    def start(self, directory: Path) -> None:
        """Connect, check the cluster, start the workers and wait for the first.

        Raises:
            ElimError: Ray is not installed; the cluster does not answer, is too small or does not see
                ``directory``; a worker cannot load the model; or the head node, or this one, is gone.
        """
        self.ray = ray_module()
        self._ours = connect(self.ray, self.batch.ray.address)
        self.links = links_of(self.ray)
        self._member = self.ray.remote(Member)  # once: a new class is told to the head node
        self.links.during(partial(self._hire_all, directory.resolve()))
        while not self.idle:
            self.welcome(1.0)
            self.links.check()
            self.expect(working=False)

    def _hire_all(self, directory: Path) -> None:
        count = capacity(self.ray, self.batch.ray)
        check_visible(self.ray, directory)
        self._replacements = count + self.batch.ray.attempts - 1
        self._alive = time.monotonic()
        for _ in range(count):
            self._hire()

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """Ask a worker for the manifest of the run."""
        asked = self.idle[0].manifest.remote(prompts_sha256, facts, started)
        while not self.ray.wait([asked], timeout=1.0)[0]:
            self.links.check()
        found: Manifest = self.ray.get(asked)
        return found

    def run(self, shards: Iterator[Shard], directory: Path, manifest: Manifest) -> Iterator[Done]:
        """Measure shards as workers become free; a shard whose worker dies goes to another.

        Raises:
            ElimError: A shard cannot be written, no worker is left, or the head node, or this one, is gone.
        """
        work = _Dispatch(self, shards, directory.resolve(), manifest)
        while work.hand_out():
            yield from work.collect()

    def close(self) -> None:
        """Stop the workers; disconnect unless the caller had connected before."""
        if self.ray is None or not self.ray.is_initialized():
            return
        if not self.links.gone:  # without them a worker that starts cannot be stopped: Ray waits for ever
            for actor in (*self.idle, *(actor for actor, _ in self._starting.values())):
                self.ray.kill(actor)
        self.idle.clear()
        self._starting.clear()
        if self._ours:
            self.ray.shutdown()

    def _hire(self) -> None:
        """Start a worker; ``welcome`` makes it idle once its model is loaded."""
        options = self.batch.ray
        made = self._member.options(
            num_cpus=options.cpus, num_gpus=options.gpus, scheduling_strategy="SPREAD"
        )
        actor = made.remote()
        placed = actor.placed.remote()
        self._starting[actor.load.remote(self.source, self.asked, self.batch, self.make)] = (actor, placed)

    def welcome(self, wait: float) -> None:
        """Make workers idle whose model is loaded, waiting at most ``wait`` seconds for one."""
        if not self._starting:
            return
        ready, _ = self.ray.wait(list(self._starting), timeout=wait)
        for reference in ready:
            actor, _ = self._starting.pop(reference)
            try:
                self.ray.get(reference)
            except ElimError:
                raise  # a model that cannot be loaded here cannot be loaded by a new worker either
            except self.ray.exceptions.RayError as error:
                self._in_vain += 1
                self.dismiss(actor, error)
            else:
                self._in_vain = 0
                self.idle.append(actor)

    def dismiss(self, actor: Any, why: Exception) -> None:
        """Replace a worker that died, unless too many have in a row while they loaded the model."""
        self.lost += 1
        self._why = why
        self.ray.kill(actor)
        if self._in_vain < self._replacements:
            self._hire()

    def expect(self, working: bool) -> None:
        """Give up where no worker lives, or none can load the model.

        Raises:
            ElimError: As said.
        """
        proofs = [placed for _, placed in self._starting.values()]
        if working or self.idle or (proofs and self.ray.wait(proofs, timeout=0)[0]):
            self._alive = time.monotonic()  # a large model may take long to load
        elif not proofs:
            raise ElimError(
                f"no Ray worker could load the model: {self._in_vain} died one after another, the last:"
                f" {first_line(self._why)}",
                f"if memory ran out: {MEMORY}, or load a smaller `dtype`; then {AGAIN};"
                " where this machine has ~/.ray/auth_token and the cluster none, set RAY_AUTH_MODE=disabled",
                Exit.PARTIAL,
            )
        elif time.monotonic() - self._alive > self.patience:
            raise ElimError(
                f"no Ray worker was alive for {self.patience:.0f} s",
                "see ray status; the same command goes on once the cluster has resources",
                Exit.PARTIAL,
            )


class _Dispatch:
    """Hand the shards of one run to workers, and collect the results."""

    def __init__(
        self, engine: RayEngine, shards: Iterator[Shard], directory: Path, manifest: Manifest
    ) -> None:
        self.engine = engine
        self.shards = shards
        self.directory = directory
        self.manifest = manifest
        self.again: deque[Shard] = deque()
        self.attempts: dict[int, int] = {}
        self.flying: dict[Any, tuple[Any, Shard]] = {}

    def hand_out(self) -> bool:
        """Give every idle worker a shard; return whether any shard is under way or waits."""
        while self.engine.idle:
            shard = self.again.popleft() if self.again else next(self.shards, None)
            if shard is None:
                break
            actor = self.engine.idle.popleft()
            self.flying[actor.do.remote(shard, self.directory, self.manifest)] = (actor, shard)
        if not (self.flying or self.again) and (waits := next(self.shards, None)) is not None:
            self.again.append(waits)  # for a worker: all are starting
        return bool(self.flying or self.again)

    def collect(self) -> Iterator[Done]:
        """Wait up to a second, and yield the shards that workers finished."""
        engine, ray = self.engine, self.engine.ray
        engine.links.check()
        engine.welcome(0 if self.flying else 1.0)
        engine.expect(working=bool(self.flying))
        ready, _ = ray.wait(list(self.flying), timeout=1.0) if self.flying else ([], [])
        for reference in ready:
            actor, shard = self.flying.pop(reference)
            try:
                done, node = ray.get(reference)
            except ElimError:
                engine.idle.append(actor)
                raise
            except ray.exceptions.RayError as error:
                engine.dismiss(actor, error)
                yield from self._retry(shard, error)
            else:
                engine.idle.append(actor)
                engine.nodes[node] = engine.nodes.get(node, 0) + 1
                yield done

    def _retry(self, shard: Shard, error: Exception) -> Iterator[Done]:
        tried = self.attempts[shard.index] = self.attempts.get(shard.index, 0) + 1
        if tried < self.engine.batch.ray.attempts:
            self.again.append(shard)
            return
        why = _shorter(error, tried)
        yield give_up(shard, self.directory, self.manifest, why, self.engine.asked)


def _shorter(error: Exception, tried: int) -> Exception:
    """Shorten Ray's message to its first line; the class keeps its name, which becomes ``error_type``."""
    error = getattr(error, "cause", None) or error  # what was raised in the worker, without Ray's frame
    kind = type(error).__name__
    named: type[Exception] = type(kind, (Exception,), {})
    told = f"the shard's worker died {tried} times; the last time: {first_line(error)}"
    return named(f"{told.rstrip('.')}; if memory ran out: {MEMORY}")
