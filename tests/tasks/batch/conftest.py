"""Runs over prompt files with a tiny model, in this process."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elimtool.engine.options import TraceOptions
from elimtool.prompts.file import PromptFile
from elimtool.tasks.batch.local import LocalEngine
from elimtool.tasks.batch.options import BatchOptions
from elimtool.tasks.batch.run import BatchProgress, run

Batch = Callable[..., BatchProgress]
QUICK = TraceOptions(
    tables=("lens", "survival", "verdicts"), samplers=("hf",), lens="raw", heads=False, errors="row"
)


def write_prompts(path: Path, count: int, longest: int = 20) -> Path:
    """Prompts of 1 to ``longest`` words, alike on every call."""
    words, chance = ["the", "capital", "of", "France", "token", "text"], random.Random(7)
    with path.open("w") as file:
        for number in range(count):
            text = " ".join([str(number), *chance.choices(words, k=chance.randint(1, longest))])
            file.write(json.dumps({"prompt": text, "id": f"p{number}", "targets": ["of"]}) + "\n")
    return path


def files_of(directory: Path) -> dict[str, bytes]:
    """Contents of every part, by name; what the reader looks at, times in run.json aside."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.glob("*/part-*.parquet"))
    }


@pytest.fixture
def batch(llama: Any) -> Batch:
    """``batch(prompts, directory, **options)`` with the tiny Llama, or another ``model``."""

    def call(
        prompts: Path,
        directory: Path,
        trace: TraceOptions = QUICK,
        overwrite: bool = False,
        model: Any = llama,
        **options: Any,
    ) -> BatchProgress:
        how = BatchOptions(**{"shard_size": 8, **options})
        with PromptFile(prompts) as file:
            return run(file, directory, LocalEngine(model, trace, how), how, overwrite=overwrite)

    return call
