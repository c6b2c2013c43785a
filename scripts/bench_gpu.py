"""Time traces and a batch on a GPU against bare passes, count how often the host waits, and weigh the memory.

Prints the ratio of a trace to the bare forward pass by shape (medians of passes that take turns), tokens a
second of a batch over those of a bare loop over the same buckets, waits of the host in a pass of 4 and of 32
prompts as torch itself counts them (``torch.cuda.set_sync_debug_mode``), and the peak of memory above the
weights. ``scripts/bench_gpu.sh`` runs it for SmolLM2 in float32 and bfloat16, and for random weights in the
shape of a model of 7 billion.

Run: python scripts/bench_gpu.py [--model NAME | --random tiny|7b] [--dtype DTYPE] [--device cuda] [--waits]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.engine.buckets import buckets
from elimtool.engine.forward import launch
from elimtool.engine.loop import Passes
from elimtool.engine.session import Session
from elimtool.lenses.corpus import shipped
from elimtool.model.loading import locate
from elimtool.model.view import Batch, Encoded

SHAPES = ((1, 16), (1, 128), (8, 64))
TURNS = 5
BATCH = 32
"""Prompts of one pass of the batch."""
SIZES = {
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
    },
    "7b": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11008,
    },
}
MEBIBYTE = 2**20


def main() -> None:
    """Measure one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="its weights, or with --random its tokenizer only")
    parser.add_argument("--random", choices=SIZES, help="random weights in this shape")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prompts", type=int, default=256, help="prompts of the batch")
    parser.add_argument("--waits", action="store_true", help="name the places that make the host wait")
    asked = parser.parse_args()
    plain, model = _loaded(asked)
    named = asked.random or asked.model
    print(f"== {named}, {asked.dtype}, {model.n_layers} layers, {model.device}", flush=True)
    session = Session(model, TraceOptions(lens="raw"))
    for rows, length in SHAPES:
        told = _shape(session, plain, _prompts(model, [length] * rows))
        print(f"trace {rows}x{length}: {told}", flush=True)
    for count in (4, 32):
        found = _waits(session, _prompts(model, [32] * count))
        times = "not counted without CUDA" if found is None else sum(found.values())
        print(f"waits of the host with {count} prompts: {times}", flush=True)
        if asked.waits and found:
            print("\n".join(f"  {times:4} {place}" for place, times in found.most_common()))
    _batch(session, plain, asked.prompts)


def _shape(session: Session, plain: Any, encoded: Sequence[Encoded]) -> str:
    """Say how long a trace of some prompts takes, and how much memory."""
    device = session.model.device

    def bare() -> None:
        _bare(plain, encoded)

    def traced() -> None:
        _pass(session, encoded)

    floor, taken = _in_turn(bare, traced, device)
    first, second = _peak(bare, device), _peak(traced, device)
    weighed = "" if first is None or second is None else f", peak {first:,.0f} MiB, traced {second:,.0f}"
    return f"{taken / floor:.2f} times the bare pass of {floor * 1e3:.1f} ms{weighed}"


def _loaded(asked: argparse.Namespace) -> tuple[Any, Any]:
    """Load a model of Hugging Face, bare, and wrapped for tracing; the weights are shared."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    directory, _ = locate(asked.model, revision=None, progress=lambda _line: None)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    dtype = getattr(torch, asked.dtype)
    torch.manual_seed(0)
    if asked.random:
        config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, **SIZES[asked.random])
        with torch.device(asked.device):
            plain = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    else:
        plain = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="sdpa")
    plain = plain.to(asked.device).eval()
    return plain, elimtool.wrap(plain, tokenizer, name=asked.random or asked.model)


def _prompts(model: Any, lengths: Sequence[int]) -> list[Encoded]:
    """Prompts of about so many tokens, cut from the shipped text."""
    backend = model.tokenizer.backend
    ids = [token for piece in shipped("fit") for token in backend(piece.text).input_ids]
    texts = [backend.decode(ids[place * 7 :][:length]) for place, length in enumerate(lengths)]
    prompts = [Prompt(text=text, id=str(number)) for number, text in enumerate(texts)]
    found = model.encode_all(prompts)
    return [one for one in found if isinstance(one, Encoded)]


@torch.inference_mode()
def _bare(plain: Any, encoded: Sequence[Encoded]) -> None:
    """Run the bare model, and fetch the logits of the last positions."""
    batch = Batch.of(encoded, plain.device)
    hidden = plain.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    plain.lm_head(hidden[batch.rows[0], batch.positions[:, 0]]).cpu()


def _pass(session: Session, encoded: Sequence[Encoded]) -> None:
    launch(session.model, encoded, session.settings_for(encoded[0]), session.lens).tables()


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    _settled(device)
    started = time.perf_counter()
    run()
    _settled(device)
    return time.perf_counter() - started


def _settled(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _in_turn(
    bare: Callable[[], object], traced: Callable[[], object], device: torch.device
) -> tuple[float, float]:
    """Return the median seconds of both, which take turns, after one of each."""
    taken = [(_seconds(bare, device), _seconds(traced, device)) for _ in range(TURNS + 1)][1:]
    first, second = zip(*taken, strict=True)
    return statistics.median(first), statistics.median(second)


def _peak(run: Callable[[], object], device: torch.device) -> float | None:
    """MiB that a call needs above what was held before; ``None`` where torch does not say."""
    if device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return float(torch.cuda.max_memory_allocated() - before) / MEBIBYTE


def _waits(session: Session, encoded: Sequence[Encoded]) -> Counter[str] | None:
    """Count what torch warns of in one pass, by place; ``None`` without CUDA."""
    _pass(session, encoded)
    if session.model.device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            _pass(session, encoded)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Counter(
        f"{Path(one.filename).name}:{one.lineno}" for one in told if "synchroniz" in str(one.message)
    )


def _batch(session: Session, plain: Any, count: int) -> None:
    """Time many prompts of 8 to 256 tokens, bucket by bucket, against the bare model."""
    model = session.model
    encoded = _prompts(model, [8 + 31 * number % 249 for number in range(count)])
    lengths = [len(one.token_ids) for one in encoded]
    groups = [[encoded[index] for index in group] for group in buckets(lengths, BATCH)]

    def loop() -> None:
        for group in groups:
            _bare(plain, group)

    loop()
    floor = _seconds(loop, model.device)
    taken = _seconds(lambda: Passes(session).run(encoded, BATCH), model.device)
    pace = [sum(lengths) / seconds for seconds in (floor, taken)]
    print(f"batch of {len(encoded)}: {pace[1]:,.0f} tokens/s, bare {pace[0]:,.0f}: {pace[1] / pace[0]:.2f}")


if __name__ == "__main__":
    main()
