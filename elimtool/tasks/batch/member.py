"""The worker that Ray runs as an actor."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.tasks.batch.preflight import ray_module

if TYPE_CHECKING:
    from elimtool.model.source import ModelSource
    from elimtool.run.manifest import Manifest
    from elimtool.tasks.batch.options import BatchOptions
    from elimtool.tasks.batch.plan import Shard
    from elimtool.tasks.batch.state import Done
    from elimtool.tasks.batch.work import Make, Wanted


class Member:
    """The actor: one worker, whose model ``load`` loads."""

    def placed(self) -> None:
        """Return at once, as only a worker that a node has room for can."""

    def load(self, source: ModelSource, asked: Wanted, batch: BatchOptions, make: Make | None = None) -> None:
        """Load the model, and let torch use as many threads as the actor has CPUs."""
        import torch

        from elimtool.tasks.batch.work import Worker

        torch.set_num_threads(max(1, int(batch.ray.cpus)))
        made: Make = make or Worker
        self.worker = made(source.load(), asked, batch)
        gc.freeze()  # the model stays to the end: the garbage collector need not search it

    def manifest(self, prompts_sha256: str, facts: Mapping[str, Any], started: str) -> Manifest:
        """Make the manifest of the run."""
        return self.worker.manifest(prompts_sha256, facts, started)

    def do(self, shard: Shard, directory: Path, run: Manifest) -> tuple[Done, str]:
        """Measure a shard; also return the id of the node."""
        node = str(ray_module().get_runtime_context().get_node_id())
        return self.worker.do(shard, directory, run), node
