"""Measure peak memory of traced passes above the model's weights, against a bare forward pass.

    python scripts/bench_memory.py                        # SmolLM2, one prompt of 1,024 and of 4,096 tokens
    python scripts/bench_memory.py --tokens 8192 --what bare trace --json memory.json

Each contestant is a fresh process that loads the model, runs 16 tokens so that all weights are in memory,
returns freed memory, and then runs its prompt once. Prints how far the peak of the resident memory, as the
kernel counts it (Linux: VmHWM), rises above what was resident before, and its ratio to the bare pass. The
contestants are those of ``bench_trace.py``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

WHAT = ("bare", "trace", "trace to verdicts")


def status(name: str) -> float:
    """A line of this process's status, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no line {name} in /proc/self/status")


def one(what: str, tokens: int, model_name: str, threads: int) -> dict[str, float]:
    """Run one contestant in this process."""
    import torch
    from bench_trace import Job, contestants, prompts

    from elimtool.model.checkpoint import load_hugging_face
    from elimtool.model.loading import load_model, locate

    torch.set_num_threads(threads)
    model = load_model(model_name)
    short, long = prompts(model, "1x16"), prompts(model, f"1x{tokens}")
    hf = None
    if what == "bare":
        directory, _ = locate(model_name, revision=None, progress=lambda _line: None)
        del model
        hf = load_hugging_face(model_name, directory, "float32", False)
        hf.set_attn_implementation("sdpa")
        model = _Plain(hf)
    contestants(Job(model, hf, short), tokens)[what]()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    contestants(Job(model, hf, long), tokens)[what]()
    return {"resident_mib": before, "peak_mib": status("VmHWM") - before}


class _Plain:
    """What a bare pass asks of a model."""

    def __init__(self, hf: Any) -> None:
        self.device = next(hf.parameters()).device


def main() -> None:
    """Print a table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--what", nargs="+", choices=[*WHAT, "run_with_cache"], default=list(WHAT))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(one(asked.what[0], asked.tokens[0], asked.model, asked.threads)))
        return
    results: dict[str, Any] = {"model": asked.model, "threads": asked.threads, "tokens": {}}
    print("| tokens | contestant | MiB above the weights | ratio to bare |\n| --- | --- | --- | --- |")
    for tokens in asked.tokens:
        found = results["tokens"][str(tokens)] = dict[str, dict[str, float]]()
        for what in asked.what:
            command = [sys.executable, __file__, "--here", "--what", what, "--tokens", str(tokens)]
            command += ["--model", asked.model, "--threads", str(asked.threads)]
            made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[what] = json.loads(made.stdout.splitlines()[-1])
            ratio = found[what]["peak_mib"] / found["bare"]["peak_mib"] if "bare" in found else float("nan")
            print(f"| {tokens:,} | {what} | {found[what]['peak_mib']:,.0f} | {ratio:.2f} |", flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
