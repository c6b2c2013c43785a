"""Prepare a trainer's data set from exported files, with TRL itself, in an environment that has it.

    python -m venv trl && trl/bin/pip install trl transformers torch
    elimtool export RUN --format sft -o sft.jsonl      # and dpo, kto
    trl/bin/python scripts/eval_export.py sft.jsonl dpo.jsonl kto.jsonl -m MODEL_DIRECTORY

Each file is read with ``datasets`` and handed to the trainer of its columns, which tokenises it. Printed are
the versions, the rows, and in how many rows the tokens that are trained on are those of the completion and an
end-of-text token. elimtool is not needed.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("files", nargs="+", type=Path)
parser.add_argument("-m", "--model", required=True, help="directory of the model that was measured")


def prepared(path: Path, model: str, where: str) -> tuple[str, Any, Any]:
    """Read a file and let its trainer prepare it; returns the trainer's name, raw rows and prepared rows."""
    import trl
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = load_dataset("json", data_files=str(path), split="train", cache_dir=where)
    name = "DPO" if "chosen" in rows.column_names else "KTO" if "label" in rows.column_names else "SFT"
    made = {one: getattr(trl, f"{name}{one}", None) for one in ("Config", "Trainer")}
    if made["Trainer"] is None:  # moved there in later versions
        from importlib import import_module

        module = import_module(f"trl.experimental.{name.lower()}")
        made = {one: getattr(module, f"{name}{one}") for one in made}
    options = made["Config"](output_dir=where, report_to=[], use_cpu=True, bf16=False)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    loaded = AutoModelForCausalLM.from_pretrained(model)
    wanted = {"prompt", "completion", "chosen", "rejected", "label"}
    asked = rows.remove_columns([one for one in rows.column_names if one not in wanted])
    trainer = made["Trainer"](model=loaded, args=options, train_dataset=asked, processing_class=tokenizer)
    return name, (rows, tokenizer), trainer.train_dataset


def main() -> None:
    """Prepare each file and say what came of it."""
    args = parser.parse_args()
    said = ", ".join(f"{name} {version(name)}" for name in ("trl", "transformers", "datasets", "torch"))
    print(said)
    for path in args.files:
        with tempfile.TemporaryDirectory() as where:
            name, (rows, tokenizer), ready = prepared(path, args.model, where)
            as_scored = sum(map(lambda a, b: _alike(a, b, tokenizer), rows, ready))
            columns = ", ".join(ready.column_names)
            print(
                f"{path.name}: {name}Trainer, {len(ready)} of {len(rows)} rows ({columns});"
                f" {as_scored} with the tokens that were scored"
            )


def _alike(row: dict[str, Any], ready: dict[str, Any], tokenizer: Any) -> bool:
    """Return whether a prepared row begins with the tokens of prompt and answer, read together."""
    answer = row.get("chosen", row.get("completion"))
    if isinstance(answer, list):
        return True  # a chat: its template decides
    whole = tokenizer(row["prompt"] + answer)["input_ids"]
    found: list[int] = []
    for key in ("input_ids", "prompt_input_ids", "prompt_ids"):
        if key in ready:
            found = list(ready[key])
            break
    for key in (
        "completion_input_ids",
        "chosen_input_ids",
        "chosen_ids",
        "answer_input_ids",
        "completion_ids",
    ):
        if key in ready and "input_ids" not in ready:
            found += list(ready[key])
            break
    return found[: len(whole)] == whole


if __name__ == "__main__":
    main()
