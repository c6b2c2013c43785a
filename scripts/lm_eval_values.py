"""Score minimal pairs with EleutherAI's lm-evaluation-harness, for the test that elimtool scores them alike.

It runs in an environment of its own, since the harness and elimtool ask for other versions:

    python -m venv lm && lm/bin/pip install lm_eval torch==2.13.0 transformers accelerate
    lm/bin/python scripts/lm_eval_values.py MODEL_DIRECTORY PAIRS.jsonl tests/data/lm_eval_pairs.json

PAIRS.jsonl is BLiMP as published. The harness's own task template of BLiMP is used, on this file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


def main(model: str, pairs: str, out: str) -> None:
    """Run the harness and write each pair with both scores."""
    torch.set_num_threads(1)
    template = Path(lm_eval.__file__).parent / "tasks" / "blimp" / "_template_yaml"
    kept = [line for line in template.read_text().splitlines() if not line.startswith("dataset_path")]
    here = ["task: pairs", "dataset_path: json", f"dataset_kwargs: {{data_files: {Path(pairs).resolve()}}}"]
    with tempfile.TemporaryDirectory() as folder:
        lines = [line.replace("validation_split: train", "test_split: train") for line in kept]
        (Path(folder) / "pairs.yaml").write_text("\n".join([*here, *lines]))
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=16),
            tasks=["pairs"],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            log_samples=True,
            bootstrap_iters=0,
        )
    samples = sorted(found["samples"]["pairs"], key=lambda one: one["doc_id"])
    rows = [
        {
            "good": one["doc"]["sentence_good"],
            "bad": one["doc"]["sentence_bad"],
            "scores": [float(side[0]) for side in one["filtered_resps"]],
            "acc": one["acc"],
        }
        for one in samples
    ]
    facts = {
        "lm_eval": version("lm_eval"),
        "transformers": version("transformers"),
        "torch": version("torch"),
        "acc": found["results"]["pairs"]["acc,none"],
    }
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    Path(out).write_text(f'{json.dumps(facts)[:-1]}, "pairs": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
