"""Measure the cost of leave-one-out with shared beginnings against runs of whole prompts.

The spans are equal parts of the second half of a prompt. Work is counted in tokens run forward; times are
processor seconds of one thread, as the median ratio.

Run: python scripts/bench_attribute.py [MODEL] [--lengths N ...] [--spans N] [--turns N]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from elimtool import AttributeOptions, Prompt, SpanRequest, load_model
from elimtool.lenses.corpus import shipped
from elimtool.model.model import Model
from elimtool.tasks.attribute.ablation import leave_one_out
from elimtool.tasks.attribute.subject import subject


def prompt_of(model: Model, length: int, spans: int) -> Prompt:
    """Some tokens of reference text; the spans are evenly spaced parts of its second half."""
    backend = model.tokenizer.backend
    ids = backend(shipped("held_out")[0].text, add_special_tokens=False).input_ids[:length]
    text = backend.decode(ids)
    half = len(text) // 2
    size = (len(text) - half - 8) // spans
    parts = [SpanRequest(f"S{at}", start=half + at * size, end=half + (at + 1) * size) for at in range(spans)]
    return Prompt(text=text, spans=tuple(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--lengths", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--spans", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(asked.model)
    assert model.packs, "this family runs whole prompts"
    print("tokens  spans  tokens run: shared  whole   less work  less time (median)  largest difference")
    for length in asked.lengths:
        prompt = prompt_of(model, length, asked.spans)
        options = AttributeOptions(methods=("leave-one-out",))
        ratios = []
        for _ in range(asked.turns):
            began = time.process_time()
            fast = subject(model, prompt, options)
            shared = leave_one_out(fast)
            middle = time.process_time()
            with model.whole():
                whole = leave_one_out(subject(model, prompt, options))
            ratios.append((time.process_time() - middle) / (middle - began))
        apart = float((shared.scores[None] - whole.scores[None]).abs().max())
        n = len(fast.one.token_ids)
        passes = n * (len(fast.spans) + 2)
        work = whole.tokens / shared.tokens
        print(
            f"{n:6}  {len(fast.spans):5}  {shared.tokens:18,}  {whole.tokens:5,}  {work:9.2f}x"
            f"  {statistics.median(ratios):17.2f}x  {apart:18.1e}"
        )
        print(f"        m + 2 whole passes: {passes:,} tokens, {passes / (shared.tokens + n):.2f}x")


if __name__ == "__main__":
    main()
