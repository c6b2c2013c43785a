"""Run ``elimtool batch`` over mixed prompts in large batches and one by one, and compare every number.

    python scripts/compare_batch_sizes.py                      # SmolLM2, 500 prompts of 1 to 400 tokens
    python scripts/compare_batch_sizes.py --prompts 60 --longest 120

Prompts are stretches of the held-out text. For each table it prints the columns that differ at all: the
largest difference of numbers, and how many integers and texts differ. Exits with 1 if a
log-probability, a mass or an entropy differs by more than 1e-4 + 1e-5 of its size.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from elimtool import TraceOptions, load_model, open_run
from elimtool.lenses.corpus import shipped
from elimtool.prompts.file import PromptFile
from elimtool.tasks.batch.local import LocalEngine
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.run import run

ABSOLUTE, RELATIVE = 1e-4, 1e-5
JUDGED = ("logprob", "target_logprob", "entropy", "mass", "mass_no_sink", "sink_mass", "prob", "top_prob")


def write_prompts(path: Path, model: Any, count: int, longest: int) -> None:
    """Stretches of the held-out text, from 1 token to ``longest``."""
    chance, backend = random.Random(7), model.tokenizer.backend
    texts = [backend(document.text).input_ids for document in shipped("held_out")]
    texts = [ids for ids in texts if len(ids) > longest]
    with path.open("w") as file:
        for number in range(count):
            ids = chance.choice(texts)
            start, length = chance.randrange(len(ids) - longest), chance.randint(1, longest)
            text = backend.decode(ids[start : start + length])
            record = {"id": f"p{number}", "prompt": text, "targets": [" the", " of"]}
            file.write(json.dumps(record) + "\n")


def differences(one: pd.DataFrame, two: pd.DataFrame) -> dict[str, tuple[str, float, bool]]:
    """For each column that differs: what is counted, how much, and whether that is too much."""
    found: dict[str, tuple[str, float, bool]] = {}
    for column in one.columns:
        left, right = one[column], two[column]
        if pd.api.types.is_float_dtype(left):
            with np.errstate(invalid="ignore"):
                apart = np.abs(left.to_numpy() - right.to_numpy())
            equal = (left == right) | (left.isna() & right.isna())
            if not equal.all():
                apart = np.where(equal, 0.0, apart)
                far = bool((apart > ABSOLUTE + RELATIVE * left.abs()).any()) and column in JUDGED
                found[column] = ("largest difference", float(apart.max()), far)
        else:
            others = int((left.map(repr) != right.map(repr)).sum())
            if others:
                found[column] = (f"others of {len(left):,}", others, False)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--longest", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=32)
    asked = parser.parse_args()
    model = load_model(asked.model)
    options = TraceOptions(lens="raw", heads=False, errors="row", samplers=("llama.cpp",))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_prompts(folder / "prompts.jsonl", model, asked.prompts, asked.longest)
        for size in (asked.batch_size, 1):
            with PromptFile(folder / "prompts.jsonl") as file:
                how = BatchOptions(batch_size=size)
                run(file, folder / str(size), LocalEngine(model, options, how), how)
        runs = [open_run(folder / str(size)) for size in (asked.batch_size, 1)]
        print(
            f"{asked.model} on {model.device}, {asked.prompts} prompts of 1 to {asked.longest} tokens,",
            end=" ",
        )
        print(f"batches of {asked.batch_size} and of 1, torch {torch.__version__}, pyarrow {pa.__version__}")
        failed = False
        for table in runs[0].tables:
            apart = differences(*(one.table(table) for one in runs))
            for column, (what, size, far) in apart.items():
                print(f"  {table}.{column}: {what} {size:.3g}" + (" (too much)" if far else ""))
                failed = failed or far
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
