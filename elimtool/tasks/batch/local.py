"""The engine of one machine: shards through one worker in this process."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from elimtool.model.source import ModelSource
from elimtool.tasks.batch.plan import Shard
from elimtool.tasks.batch.state import Done

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.model.model import Model
    from elimtool.run.manifest import Manifest
    from elimtool.tasks.batch.options import BatchOptions


class Engine(Protocol):
    """What does shards: in this process, or on a cluster."""

    def start(self, directory: Path) -> None:
        """Load what is needed, and check that the work can be done."""

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """What ``run.json`` will say."""

    def run(self, shards: Iterator[Shard], directory: Path, manifest: Manifest) -> Iterator[Done]:
        """Do the shards; they may be finished in any order."""

    def close(self) -> None:
        """Let go of everything."""


class LocalEngine:
    """Does shards one after another with one model.

    Args:
        model: The model, or how to load it.
        trace: What to measure.
        batch: How.
        say: Told what is being waited for.
    """

    def __init__(
        self,
        model: Model | ModelSource,
        trace: TraceOptions,
        batch: BatchOptions,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.model, self.trace, self.batch, self.say = model, trace, batch, say
        self.thaw = False

    def start(self, directory: Path) -> None:
        """Load the model.

        Raises:
            ElimError: It cannot be found or loaded.
        """
        del directory
        from elimtool.tasks.batch.work import Worker

        model = self.model.load(self.say) if isinstance(self.model, ModelSource) else self.model
        self.worker = Worker(model, self.trace, self.batch)
        self.thaw = gc.get_freeze_count() == 0
        gc.freeze()  # what is there by now stays to the end: no search for cyclic garbage goes through it

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """What ``run.json`` will say."""
        return self.worker.manifest(prompts_sha256, facts, started)

    def run(self, shards: Iterator[Shard], directory: Path, manifest: Manifest) -> Iterator[Done]:
        """Do the shards in order.

        Raises:
            ElimError: A shard cannot be written.
        """
        for shard in shards:
            yield self.worker.do(shard, directory, manifest)

    def close(self) -> None:
        """Let Python search through all objects again, but where somebody else had frozen some."""
        if self.thaw:
            gc.unfreeze()
