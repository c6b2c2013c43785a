"""Measure what an answer along a text of 10 sentences costs, against a trace of the whole text.

Both traces fill every table; what the controls take (the other orders and filler) is taken off and told by
itself. Times depend on what else runs, so they are medians of turns, of the processor's own time.

Run: python scripts/bench_along.py [MODEL] [--turns N] [--threads N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

import elimtool
from elimtool import Prompt, TraceOptions, load_model
from elimtool.engine.along import AnswersAlong
from elimtool.lenses.corpus import shipped
from elimtool.prompts.segments import SENTENCES, starts_of

COUNT = 10
CUE = " So the answer is"


def text_of(sentences: int) -> str:
    """The first sentences of the held-out text."""
    text = shipped("held_out")[0].text
    return text[: starts_of(text, SENTENCES)[sentences]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load_model(asked.model)
    text = text_of(COUNT)
    controls: list[float] = []
    whole = AnswersAlong.read_whole

    def timed(self: AnswersAlong, *given: Any) -> Any:
        began = time.process_time()
        found = whole(self, *given)
        controls[-1] += time.process_time() - began
        return found

    AnswersAlong.read_whole = timed  # type: ignore[method-assign]
    plain, along = [], []
    for _ in range(asked.turns + 1):
        controls.append(0.0)
        for times, options, given in (
            (plain, TraceOptions(), text + CUE),
            (along, TraceOptions(along="sentences", cue=CUE), text),
        ):
            began = time.process_time()
            run = elimtool.trace(model, Prompt(given, targets=(" 5",)), options=options)
            times.append(time.process_time() - began)
    rows = run.table("answers_along")
    tokens, segments = int(rows["n_tokens"].max()), int(rows["k"].max())
    ratios = [(b - c) / a for a, b, c in zip(plain[1:], along[1:], controls[1:], strict=True)]
    print(f"{segments} sentences, {tokens} tokens; processor seconds, medians of {asked.turns} turns")
    print(f"trace of the whole text {statistics.median(plain[1:]):.2f}")
    print(f"with the answer along it {statistics.median(along[1:]):.2f}", end=", ")
    print(f"of which controls {statistics.median(controls[1:]):.2f}", end="; ")
    print(f"without these {statistics.median(ratios):.2f} times the trace")


if __name__ == "__main__":
    main()
