"""Time ``elimtool batch`` against a bare loop of Hugging Face forward passes over the same buckets.

    python scripts/bench_batch.py                       # SmolLM2, 500 prompts of 8 to 256 tokens
    python scripts/bench_batch.py --prompts 64 --rounds 1

The prompts are cut from held-out prose. The bare loop runs the plain model (SDPA, logits of the last position
alone) over batch's own buckets. Both take turns shard by shard, as the speed of a machine changes; prints
tokens per second of each, the median ratio of the rounds, the padding and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from elimtool import TraceOptions, load_model
from elimtool.engine.buckets import buckets
from elimtool.lenses.corpus import shipped
from elimtool.prompts.file import PromptFile
from elimtool.run.manifest import Manifest
from elimtool.tasks.batch.local import LocalEngine
from elimtool.tasks.batch.measure import FIRST_SIZE
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.plan import Shard
from elimtool.tasks.batch.run import BatchProgress, run
from elimtool.tasks.batch.state import Done


def write_prompts(path: Path, model: Any, count: int) -> list[list[int]]:
    """Prompts of 8 to 256 tokens; returns their ids."""
    chance, backend = random.Random(5), model.tokenizer.backend
    prose = [backend(piece.text).input_ids for piece in shipped("held_out")]
    long = [ids for ids in prose if len(ids) >= 256]
    found: list[list[int]] = []
    with path.open("w") as file:
        for number in range(count):
            ids, length = chance.choice(long), chance.randint(8, 256)
            start = chance.randint(0, len(ids) - length)
            found.append(backend(backend.decode(ids[start : start + length])).input_ids[:256])
            file.write(json.dumps({"prompt": backend.decode(found[-1]), "id": f"p{number}"}) + "\n")
    return found


@torch.inference_mode()
def bare(plain: Any, shard: list[list[int]], options: BatchOptions) -> float:
    """Seconds of the forwards alone, bucket by bucket."""
    started = time.perf_counter()
    for group in buckets([len(ids) for ids in shard], options.batch_size or FIRST_SIZE):
        width = max(len(shard[index]) for index in group)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        for row, index in enumerate(group):
            ids[row, : len(shard[index])] = torch.tensor(shard[index])
        hidden = plain.model(input_ids=ids.to(plain.device), use_cache=False).last_hidden_state
        last = torch.tensor([len(shard[index]) - 1 for index in group])
        plain.lm_head(hidden[torch.arange(len(group)), last]).cpu()
    return time.perf_counter() - started


class Alternating(LocalEngine):
    """Batch's own engine, which lets the bare loop run before each of its shards.

    Attributes:
        floor: Seconds of the bare loop so far.
    """

    def __init__(
        self, plain: Any, prompts: list[list[int]], model: Any, trace: TraceOptions, options: BatchOptions
    ) -> None:
        super().__init__(model, trace, options)
        self.plain, self.prompts, self.floor = plain, prompts, 0.0

    def run(self, shards: Iterator[Shard], directory: Path, manifest: Manifest) -> Iterator[Done]:
        """Do the shards in order, the bare loop first."""
        size = self.batch.shard_size
        for shard in shards:
            some = self.prompts[shard.index * size : (shard.index + 1) * size]
            self.floor += bare(self.plain, some, self.batch)
            yield self.worker.do(shard, directory, manifest)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard-size", type=int, default=BatchOptions().shard_size)
    parser.add_argument("--tables")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    from transformers import AutoModelForCausalLM

    model = load_model(asked.model, device=asked.device)
    plain = AutoModelForCausalLM.from_pretrained(
        model.directory, dtype=model.dtype, attn_implementation="sdpa"
    ).to(model.device)
    tables = tuple(asked.tables.split(",")) if asked.tables else None
    options = BatchOptions(shard_size=asked.shard_size)
    trace = TraceOptions(tables=tables, heads=False, errors="row")
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "prompts.jsonl"
        prompts = write_prompts(path, model, asked.prompts)
        tokens = sum(len(ids) for ids in prompts)
        for number in range(asked.rounds):
            engine = Alternating(plain, prompts, model, trace, options)
            started = time.perf_counter()
            with PromptFile(path) as file:
                standing: BatchProgress = run(file, Path(name) / f"run{number}", engine, options)
            taken = time.perf_counter() - started - engine.floor
            ratios.append(engine.floor / taken)
            pace = f"bare {tokens / engine.floor:,.0f} tokens/s, batch {standing.tokens / taken:,.0f}"
            print(f"{pace}: {ratios[-1]:.2f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{asked.prompts} prompts, {tokens:,} tokens, {standing.errors} errors")
    print(f"ratio {statistics.median(ratios):.2f} (median of {asked.rounds})")
    print(f"padding {standing.padding:.1%} of token slots, peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
