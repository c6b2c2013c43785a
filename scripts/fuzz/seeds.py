"""Write one whole file of each kind, which inputs are made from."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import yaml
from words import BOUNDS, STAGES, TEXTS

TEMPLATE = (
    "{{ (tools or '') ~ (x or '') ~ (y or '') ~ (enable_thinking or '') ~ (strftime_now('%d') or '') }}"
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
"""A chat template that reads all that an input may give it."""


def seeds(folder: Path) -> None:
    """Write one whole file of each kind, from tiny models."""
    import elimtool
    from elimtool.cli import app
    from tests.conftest import byte_tokenizer
    from tests.families import save

    for name, family in (("model", "llama"), ("mixture", "qwen3_moe")):
        (folder / name).mkdir(parents=True)
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = TEMPLATE
        save(family, folder / name, tokenizer)
    os.chdir(folder)
    records = (
        {"prompt": text, "id": name, "targets": ["Paris"]}
        for name, text in zip(("one", "two"), TEXTS, strict=False)
    )
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, records)))
    (folder / "text.txt").write_text("\n\n".join(f"{one} {i}." for i in range(40) for one in TEXTS))
    (folder / "chain.yaml").write_text(yaml.safe_dump({"stages": [STAGES[0], STAGES[4], STAGES[8]]}))
    (folder / "config.yaml").write_text("quiet: true\n")
    groups = {"slot": "who", "one": ["Ann", "Eve"], "two": ["Bob", "Tim"], "pair": "aligned"}
    templates = [{"id": f"t{n}", "template": f"{one} {{who}} said"} for n, one in enumerate(TEXTS[:2])]
    suite = {"version": 1, "defaults": {"targets": ["Paris"]}, "groups": groups, "templates": templates}
    (folder / "groups.yaml").write_text(yaml.safe_dump(suite))
    slots = {"lead": ["It", "So"], "item": [{"text": one, "targets": ["Paris"]} for one in ("a", "b", "c")]}
    templates = [{"id": f"t{n}", "template": f"{{lead}} {{item}} {one}"} for n, one in enumerate(TEXTS[:2])]
    grid = {"version": 1, "templates": templates, "slots": slots}
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))
    pairs = ({"good": f"{one} it is", "bad": f"{one} it are", "category": "verb/number"} for one in TEXTS[:2])
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    taxonomy = {"version": 1, "nodes": {"verb/number": {"min_items": 2, "min_accuracy": 0.1}, "noun": None}}
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    (folder / "tools.json").write_text('[{"type": "function", "function": {"name": "f"}}]')
    checks = [{"id": f"c{number}", **one} for number, one in enumerate(BOUNDS)]
    shared = {
        "version": 1,
        "model": {"dtype": "float32"},
        "defaults": {"atol": 0.01},
        "samplers": ["hf", "vllm"],
    }
    files = {"prompts": f"{folder}/prompts.jsonl", "baseline": "baseline.json"}
    (folder / "checks.yaml").write_text(yaml.safe_dump({**shared, **files, "checks": checks}))
    follow = ["-t", "Paris", "-m", "model", "-q"]
    for line in (
        *(
            line
            for name in ("model", "mixture")
            for line in (
                ["lens", "fit", "text.txt", "-o", f"{name}-lens.safetensors", "-m", name, "-q"],
                ["trace", TEXTS[0], "-m", name, "--save-activations", f"{name}-kept.safetensors", "-q"],
            )
        ),
        ["batch", "prompts.jsonl", "-o", "run", "-m", "model", "--generate", "2", "-q"],
        ["batch", "prompts.jsonl", "-o", "batch", "-m", "model", "--shard-size", "1", "-q"],
        ["batch", "prompts.jsonl", "-o", "slice", "-m", "model", "--shard-size", "1", "--shard", "0/2", "-q"],
        ["batch", "prompts.jsonl", "-o", "other", "-m", "model", "--shard-size", "1", "--shard", "1/2", "-q"],
        ["audit", "groups.yaml", "-o", "groups", "-m", "model", "-q"],
        ["sweep", "grid.yaml", "-o", "grid", "-m", "model", "--concept", "a=a, b", "-q"],
        ["coverage", "pairs.jsonl", "-o", "pairs", "-m", "model", "-q"],
        ["attribute", TEXTS[0], *follow, "-o", "attributed"],
        ["locate", "a b c d", "--corrupt", "a b x d", *follow, "-o", "located"],
        ["batch", "prompts.jsonl", "-o", "second", "-m", "model", "--ablate", "mlp.1", "-q"],
        ["compare", "run", "second", "--intervened", "-o", "comparison", "-q"],
        ["check", "checks.yaml", "-m", "model", "--update", "-q"],
    ):
        with contextlib.suppress(SystemExit):
            app.main(line)
    made = (
        *(f"{name}-{kind}.safetensors" for name in ("model", "mixture") for kind in ("lens", "kept")),
        "slice",
        "other",
        "attributed",
        "groups/analysis/audit/analysis.json",
        "grid/analysis/sweep/analysis.json",
        "pairs/analysis/coverage/analysis.json",
        "run/run.json",
    )
    lacking = [
        one for one in (*made, "located", "comparison", "baseline.json") if not (folder / one).exists()
    ]
    if lacking:
        sys.exit(f"not made: {', '.join(lacking)}")
    assert elimtool
