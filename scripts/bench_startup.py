"""Time a whole warm ``elimtool trace`` against a bare script that does one forward pass.

The bare script imports torch and transformers, loads the same directory and runs the model once. The two run
in alternation, as absolute times depend on the machine: read the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from elimtool.model.catalogue import CATALOGUE, materialise

PROMPT = "The capital of France is"

BARE = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
with torch.no_grad():
    logits = model(**tokenizer(sys.argv[2], return_tensors="pt")).logits
print(float(logits[0, -1].softmax(-1).max()))
"""


def seconds(command: list[str]) -> float:
    """Wall-clock time of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    directory = str(materialise(CATALOGUE["smollm2"]))
    bare = [sys.executable, "-c", BARE, directory, PROMPT]
    traced = [sys.executable, "-m", "elimtool", "trace", PROMPT, "-t", "Paris"]
    help_ = [sys.executable, "-m", "elimtool", "--help"]
    seconds(bare), seconds(traced)
    pairs = [(seconds(traced), seconds(bare)) for _ in range(options.runs)]
    found = {
        "trace_s": statistics.median(a for a, _ in pairs),
        "bare_s": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
        "ratio_min": min(a / b for a, b in pairs),
        "ratio_max": max(a / b for a, b in pairs),
        "help_s": statistics.median(seconds(help_) for _ in range(options.runs)),
    }
    if options.json:
        print(json.dumps(found))
        return
    print(f"elimtool trace  {found['trace_s']:6.2f} s (median of {options.runs})")
    print(f"bare forward    {found['bare_s']:6.2f} s")
    print(f"ratio           {found['ratio']:6.2f} ({found['ratio_min']:.2f} to {found['ratio_max']:.2f})")
    print(f"elimtool --help {found['help_s']:6.2f} s")


if __name__ == "__main__":
    main()
