"""Times ``elimtool batch`` against a bare loop of Hugging Face forwards on the same buckets, in one process.

    python scripts/bench_batch.py                       # SmolLM2, 500 prompts of 8 to 256 tokens
    python scripts/bench_batch.py --prompts 64 --rounds 1

The bare loop runs the plain model (SDPA, logits of the last position alone) over batch's own buckets.
Both are timed in turns; prints tokens a second of each, the median ratio, the padding and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from elimtool import TraceOptions, load_model
from elimtool.batch.buckets import buckets
from elimtool.batch.local import LocalEngine
from elimtool.batch.options import BatchOptions
from elimtool.batch.passes import FIRST_SIZE
from elimtool.batch.run import Standing, run
from elimtool.promptfile import PromptFile


def write_prompts(path: Path, model: Any, count: int) -> list[list[int]]:
    """Prompts of 8 to 256 tokens; returns their ids."""
    chance, backend = random.Random(5), model.tokenizer.backend
    plain = [i for i in range(len(backend)) if backend.decode([i]).strip().isalpha()]
    found: list[list[int]] = []
    with path.open("w") as file:
        for number in range(count):
            text = backend.decode(chance.choices(plain, k=chance.randint(8, 256)))
            found.append(backend(text).input_ids[:256])
            file.write(json.dumps({"prompt": backend.decode(found[-1]), "id": f"p{number}"}) + "\n")
    return found


def bare(plain: Any, prompts: list[list[int]], options: BatchOptions) -> float:
    """Seconds of the forwards alone, shard by shard, bucket by bucket."""
    started = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(prompts), options.shard_size):
            shard = prompts[start : start + options.shard_size]
            for group in buckets([len(ids) for ids in shard], options.batch_size or FIRST_SIZE):
                width = max(len(shard[index]) for index in group)
                ids = torch.zeros(len(group), width, dtype=torch.long)
                for row, index in enumerate(group):
                    ids[row, : len(shard[index])] = torch.tensor(shard[index])
                hidden = plain.model(input_ids=ids.to(plain.device), use_cache=False).last_hidden_state
                last = torch.tensor([len(shard[index]) - 1 for index in group])
                plain.lm_head(hidden[torch.arange(len(group)), last])
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tables")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    from transformers import AutoModelForCausalLM

    model = load_model(asked.model, device=asked.device)
    plain = AutoModelForCausalLM.from_pretrained(
        model.directory, dtype=model.dtype, attn_implementation="sdpa"
    ).to(model.device)
    tables = tuple(asked.tables.split(",")) if asked.tables else None
    options = BatchOptions()
    trace = TraceOptions(tables=tables, heads=False, errors="row")
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "prompts.jsonl"
        prompts = write_prompts(path, model, asked.prompts)
        tokens = sum(len(ids) for ids in prompts)
        for number in range(asked.rounds):
            floor = bare(plain, prompts, options)
            started = time.perf_counter()
            with PromptFile(path) as file:
                engine = LocalEngine(model, trace, options)
                standing: Standing = run(file, Path(name) / f"run{number}", engine, options)
            taken = time.perf_counter() - started
            ratios.append(floor / taken)
            pace = f"bare {tokens / floor:,.0f} tokens/s, batch {standing.tokens / taken:,.0f}"
            print(f"{pace}: {ratios[-1]:.2f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{asked.prompts} prompts, {tokens:,} tokens, {standing.errors} errors")
    print(f"ratio {statistics.median(ratios):.2f} (median of {asked.rounds})")
    print(f"padding {standing.padding:.1%} of token slots, peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
