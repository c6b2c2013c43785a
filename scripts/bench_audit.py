"""Measure ``elimtool audit``: the analysis alone, and a suite with a model; processor time, time and memory.

    python scripts/bench_audit.py [RECORDS] [--suite jobs]

Makes up a run of templates, pairs of words and 30 layers in a temporary folder, audits it in a process of its
own, and prints what that took. docs/audit.md has the numbers.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from elimtool.run.manifest import Manifest
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES

LAYERS, WORDS = 30, 20
CHAINS = {
    "llama.cpp": ("top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc", "temperature"),
    "hf": ("temperature", "top_k", "top_p"),
    "vllm": ("temperature", "top_k", "top_p"),
}


def made_up(records: int) -> Run:
    """Make a run of so many records, of two groups."""
    drawn = np.random.default_rng(0)
    templates = records // (2 * WORDS)
    cells = [(t, w, g) for t in range(templates) for w in range(WORDS) for g in range(2)]
    ids = np.array([f"t{t}/w{w}/{g}" for t, w, g in cells])
    tables = {"prompts": table("prompts", len(ids), prompt_columns(ids, cells))}
    logits = np.cumsum(drawn.normal(size=(len(ids), LAYERS + 1)), axis=1)
    tables["lens"] = lens(ids, logits)
    attended = np.repeat(ids, LAYERS * 3)
    spans = np.tile(np.array(["<sink>", "group", "<rest>"]), len(ids) * LAYERS)
    layer = np.tile(np.repeat(np.arange(LAYERS, dtype=np.int32), 3), len(ids))
    lift = drawn.exponential(size=len(attended))
    tables["attention"] = table(
        "attention",
        len(attended),
        {"prompt_id": attended, "layer": layer, "span": spans, "lift_no_sink": lift},
    )
    rank = drawn.integers(1, 1000, len(ids)).astype(np.int32)
    joint = {
        "prompt_id": ids,
        "target": said(" yes", len(ids)),
        "target_logprob": logits[:, -1],
        "rank": rank,
    }
    tables["survival"] = table("survival", len(ids), joint)
    tables["sampling_targets"] = stages(ids, drawn)
    outcome = np.where(drawn.uniform(size=len(ids)) < 0.5, "survived", "outranked")
    judged = {"prompt_id": ids, "target": said(" yes", len(ids)), "outcome": outcome}
    tables["verdicts"] = table("verdicts", len(ids), judged)
    return Run.from_tables(manifest(), tables)


def prompt_columns(ids: Any, cells: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Columns of the table ``prompts``."""
    count = len(ids)
    return {
        "prompt_id": ids,
        "status": said("ok", count),
        "text": ids,
        "template": [f"t{t}" for t, _, _ in cells],
        "tuple": [f"t{t}/w{w}" for t, w, _ in cells],
        "filler": [f"a{w}|b{w}" for _, w, _ in cells],
        "group": ["ab"[g] for _, _, g in cells],
        "category": [f"c{t % 5}" for t, _, _ in cells],
        "targets": [[" yes"]] * count,
        "foils": [[" no"]] * count,
        "tokens": [["the", "word", "was"]] * count,
        "token_ids": [[0, 1, 2]] * count,
        "token_priors": [[-8.0, -9.0, -7.0]] * count,
        "spans": [[{"span": "<sink>", "tokens": [0]}, {"span": "group", "tokens": [1]}]] * count,
        "n_appended": np.zeros(count, np.int32),
    }


def lens(ids: Any, logits: Any) -> Any:
    """Make the table ``lens``: a target and a foil at every layer."""
    count = logits.size * 2
    values = np.repeat(logits.ravel(), 2)
    return table(
        "lens",
        count,
        {
            "prompt_id": np.repeat(ids, (LAYERS + 1) * 2),
            "layer": np.tile(np.repeat(np.arange(-1, LAYERS, dtype=np.int32), 2), len(ids)),
            "target": np.tile(np.array([" yes", " no"]), count // 2),
            "is_foil": np.tile(np.array([False, True]), count // 2),
            "logit": np.where(np.arange(count) % 2 == 0, values, 0.0),
        },
    )


def stages(ids: Any, drawn: np.random.Generator) -> Any:
    """Make the table ``sampling_targets``: the second stage of each chain cuts some."""
    names = [(chain, at, stage) for chain, some in CHAINS.items() for at, stage in enumerate(some)]
    count = len(ids) * len(names)
    cut = np.repeat(drawn.uniform(size=len(ids)) < 0.4, len(names))
    index = np.tile(np.array([at for _, at, _ in names], np.int32), len(ids))
    return table(
        "sampling_targets",
        count,
        {
            "prompt_id": np.repeat(ids, len(names)),
            "chain": np.tile(np.array([chain for chain, _, _ in names]), len(ids)),
            "stage_index": index,
            "stage": np.tile(np.array([stage for _, _, stage in names]), len(ids)),
            "target": said(" yes", count),
            "alive_before": ~(cut & (index > 1)),
            "alive_after": ~(cut & (index > 0)),
        },
    )


def said(text: str, count: int) -> Any:
    """Repeat a text."""
    return pa.repeat(pa.scalar(text), count)


def table(name: str, count: int, columns: dict[str, Any]) -> Any:
    """Make a table whose other columns are null or hold nothing."""
    whole = {}
    for one in TABLES[name].columns:
        if one.name in columns:
            whole[one.name] = columns[one.name]
        elif one.nullable:
            whole[one.name] = pa.nulls(count, one.type)
        elif pa.types.is_list(one.type):
            whole[one.name] = [[]] * count
        else:
            nothing: Any = "" if pa.types.is_string(one.type) else 0
            whole[one.name] = pa.repeat(pa.scalar(nothing).cast(one.type), count)
    return TABLES[name].from_columns(whole)


def manifest() -> Manifest:
    """Make the manifest of a run that no model made."""
    named = dict.fromkeys(("transformer_lens", "transformers", "torch"))
    plain = {"elimtool": "0", "model": "made up", "dtype": "float32", "device": "cpu", "processing": "raw"}
    read: dict[str, Any] = {"bos": "none", "lens": "raw", "sinks": "auto", "chains": [], "config": {}}
    return Manifest(**named, **plain, **read)


def spent(*command: str) -> str:
    """Run elimtool in a process of its own; say what that took. Memory is the most of any process so far."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "elimtool", *command, "-q"], check=True, stdout=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{used:.1f} s of processor time, {wall:.1f} s, {after.ru_maxrss / 2**20:.2f} GiB"


def main() -> None:
    """Measure, and print a line or two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="?", type=int, default=20_000)
    parser.add_argument(
        "--suite", help="also measure and audit a suite, such as jobs, with the default model"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        made_up(given.records).save(run)
        print(f"{given.records:,} records: {spent('audit', str(run))}")
        if given.suite:
            out = str(Path(folder) / "measured")
            print(f"{given.suite}, measured and audited: {spent('audit', given.suite, '-o', out)}")


if __name__ == "__main__":
    main()
