"""Time whole default traces of two versions of elimtool against each other, by processor time.

Each version runs in a process of its own, one thread each, and they take turns, so that a busy machine slows
both; what is printed is the median over turns of the ratio of processor times (the least of a turn's traces),
new to old. What a trace costs is counted, not what waits for it: loading the model is not in it.

Run: python scripts/bench_against.py OLD [--turns N] [--model NAME] [LENGTH ...]
OLD is a commit or a directory. Lengths are in tokens; the default is 16, 128 and 1024. A trace with the
columns on what attention carries may cost 1.08 times one of commit 141252d.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent
LENGTHS = (16, 128, 1024)
TRACES = 3
"""Traces of a turn; of long prompts one."""
LONG = 512
"""Tokens from which a prompt is long."""


class Version:
    """A process that traces with one version of elimtool.

    Args:
        tree: Directory that holds the package.
        model: Name of the model.
    """

    def __init__(self, tree: Path, model: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", __file__, str(tree), "--serve", "--model", model]
        self.process = subprocess.Popen(
            command, env=environment, cwd=tree, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def seconds(self, length: int, traces: int) -> float:
        """Return the least processor time of some traces of a prompt of so many tokens."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{length} {traces}\n")
        self.process.stdin.flush()
        return min(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(model_name: str) -> None:
    """Answer each line, a length and a number of traces, with the processor time of each trace."""
    import torch

    from elimtool import Prompt
    from elimtool.lenses.corpus import shipped
    from elimtool.model.loading import load_model
    from elimtool.tasks.trace import trace

    torch.set_num_threads(1)
    model = load_model(model_name)
    ids = [token for piece in shipped("fit") for token in model.tokenizer.backend(piece.text).input_ids]
    for line in sys.stdin:
        length, traces = map(int, line.split())
        prompt = Prompt(text=model.tokenizer.backend.decode(ids[:length]), id="0")
        spent = []
        for _ in range(traces):
            start = time.process_time()
            trace(model, [prompt])
            spent.append(time.process_time() - start)
        print(json.dumps(spent), flush=True)


def compared(old: Version, new: Version, length: int, turns: int) -> dict[str, Any]:
    """Compare two versions on prompts of one length."""
    traces = 1 if length >= LONG else TRACES
    for version in (old, new):
        version.seconds(length, 2)  # warm
    pairs = []
    for turn in range(turns):
        first, second = (old, new) if turn % 2 else (new, old)
        one, other = first.seconds(length, traces), second.seconds(length, traces)
        pairs.append((one, other) if turn % 2 else (other, one))
    ratios = sorted(after / before for before, after in pairs)
    quarter = len(ratios) // 4
    return {
        "ratio": statistics.median(ratios),
        "middle half": (ratios[quarter], ratios[-1 - quarter]),
        "of least": min(after for _, after in pairs) / min(before for before, _ in pairs),
        "old seconds": min(before for before, _ in pairs),
    }


def tree_of(old: str, stack: ExitStack) -> Path:
    """Return the directory that holds a version: itself, or one made for a commit until the stack is left."""
    tree = Path(old)
    if tree.is_dir():
        return tree
    tree = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "old"
    git = ["git", "-C", str(HERE), "worktree"]
    subprocess.run([*git, "add", "--detach", str(tree), old], check=True, capture_output=True)
    stack.callback(subprocess.run, [*git, "remove", "--force", str(tree)], check=True)
    return tree


def main() -> None:
    """Print a line for each length."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", help="commit of this repository, or a directory that holds the package")
    parser.add_argument("lengths", nargs="*", type=int, default=LENGTHS)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    if options.serve:
        serve(options.model)
        return
    with ExitStack() as stack:
        tree = tree_of(options.old, stack)
        versions = [Version(where, options.model) for where in (tree, HERE)]
        for version in versions:
            stack.callback(version.close)
        for length in options.lengths:
            found = compared(versions[0], versions[1], length, options.turns)
            low, high = found["middle half"]
            print(
                f"1x{length}: {found['ratio']:.3f} times (middle half of turns {low:.3f} to {high:.3f};"
                f" least of each {found['of least']:.3f}; old {found['old seconds']:.3f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
