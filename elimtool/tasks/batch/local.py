"""Run shards in this process, one after another."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from elimtool.model.source import ModelSource
from elimtool.tasks.batch.plan import Shard
from elimtool.tasks.batch.state import Done

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.run.manifest import Manifest
    from elimtool.tasks.batch.options import BatchOptions
    from elimtool.tasks.batch.work import Make, Wanted


class Engine(Protocol):
    """Measures shards, in this process or on a cluster."""

    def start(self, directory: Path) -> None:
        """Load the model, and check that shards can be measured and written to ``directory``."""

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """Make the manifest of the run."""

    def run(self, shards: Iterator[Shard], directory: Path, manifest: Manifest) -> Iterator[Done]:
        """Measure shards; they may be finished in any order."""

    def close(self) -> None:
        """Release the workers."""


class LocalEngine:
    """Measure shards with one model.

    Args:
        model: The model, or how to load it.
        asked: What to measure.
        batch: Options of the run.
        say: Called with a line of text when something slow begins.
        make: Makes the worker; ``None`` for one that traces prompts.
    """

    def __init__(
        self,
        model: Model | ModelSource,
        asked: Wanted,
        batch: BatchOptions,
        say: Callable[[str], None] | None = None,
        make: Make | None = None,
    ) -> None:
        self.model, self.asked, self.batch, self.say, self.make = model, asked, batch, say, make
        self.thaw = False

    def start(self, directory: Path) -> None:
        """Load the model.

        Raises:
            ElimError: The model cannot be found or loaded.
        """
        del directory
        from elimtool.tasks.batch.work import Worker

        model = self.model.load(self.say) if isinstance(self.model, ModelSource) else self.model
        made: Make = self.make or Worker
        self.worker = made(model, self.asked, self.batch, self.say)
        self.thaw = gc.get_freeze_count() == 0
        gc.freeze()  # the model stays to the end: the garbage collector need not search it

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """Make the manifest of the run."""
        return self.worker.manifest(prompts_sha256, facts, started)

    def run(self, shards: Iterator[Shard], directory: Path, manifest: Manifest) -> Iterator[Done]:
        """Measure shards in order.

        Raises:
            ElimError: A shard cannot be written.
        """
        for shard in shards:
            yield self.worker.do(shard, directory, manifest)

    def close(self) -> None:
        """Undo ``gc.freeze``, unless the caller had frozen objects of its own."""
        if self.thaw:
            gc.unfreeze()
