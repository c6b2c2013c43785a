"""Time traced passes of a model against its bare forward pass by shape; on a GPU, measure peak memory too.

The floor is the least that a trace needs: one forward pass by SDPA with logits of the last position, and
one product of every layer's residual there with the unembedding. All contestants run in turn in one process;
what is printed is the median of the ratios to the floor of the same turn. Absolute times are of no use on a
busy machine.

Run: python scripts/bench_trace.py [--quick] [--json FILE] [--write] [--threads N] [--device cuda] [SHAPE ...]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from elimtool import Prompt, TraceOptions
from elimtool.engine.buckets import buckets
from elimtool.engine.forward import launch
from elimtool.engine.options import DEFAULT_SAMPLERS
from elimtool.lenses.corpus import shipped
from elimtool.lenses.raw import RawLens
from elimtool.metrics.metric import Settings
from elimtool.metrics.sampling import SamplerLedger
from elimtool.model.checkpoint import load_hugging_face
from elimtool.model.loading import load_model, locate
from elimtool.model.view import Batch, Encoded
from elimtool.numerics import kernels
from elimtool.samplers import resolve
from elimtool.tasks.trace import trace

SHAPES = ("1x16", "1x128", "8x64", "1x1024", "1x4096", "mixed", "1x512@all")
QUICK = ("1x16", "1x128", "8x64")
MIXED = (8, 16, 24, 32, 64, 96, 160, 256)
TABLES = frozenset({"attention", "attention_heads", "attention_layers", "lens", "lens_layers"}) | {
    *SamplerLedger.tables
}
"""The tables of a trace without components: neither those nor mechanisms and regimes, nor verdicts."""
CACHED_TOKENS = 1024
"""``run_with_cache`` is left out for longer prompts: it holds every activation."""
EVERY_TOKENS = 128
"""The price of ``--position all`` is measured on prompts of up to so many tokens."""
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Job:
    """A model loaded twice, bare and for tracing, and prompts of one shape."""

    model: Any
    hf: Any
    encoded: Sequence[Encoded]

    @property
    def every(self) -> bool:
        """Whether every position is probed."""
        return len(self.encoded[0].positions) > 1

    def passes(self) -> list[list[Encoded]]:
        """The prompts of each forward pass, as a trace would batch them."""
        groups = buckets([len(one.token_ids) for one in self.encoded], 8)
        return [[self.encoded[index] for index in group] for group in groups]

    def bare(self) -> None:
        """Hugging Face alone."""
        with torch.inference_mode():
            for some in self.passes():
                ids = Batch.of(some, self.model.device).ids
                self.hf(input_ids=ids, use_cache=False, logits_to_keep=1)

    def floor(self) -> None:
        """The bare passes, and every layer's residual at the last position times the unembedding."""
        self.bare()
        weight = self.hf.get_output_embeddings().weight
        with torch.inference_mode():
            for some in self.passes():
                rows = (self.model.n_layers + 1) * sum(len(one.positions) for one in some)
                for part in weight.new_ones(rows, weight.shape[1]).split(512):
                    part @ weight.T

    def trace(self, settings: Settings) -> None:
        """The forward passes with all that fills tables, compiled loops where a trace takes them."""
        rows = (self.model.n_layers + 1) * sum(len(one.positions) for one in self.encoded)
        settings = replace(settings, compiled=kernels.worth(self.model.vocab, rows))
        for some in self.passes():
            launch(self.model, some, settings, RawLens()).tables()

    def whole(self, every: bool | None = None) -> None:
        """A whole trace from prompts to verdicts, as ``elimtool trace`` makes it: every table."""
        every = self.every if every is None else every
        options = TraceOptions(position="all" if every else "last", lens="raw")
        trace(self.model, [one.prompt for one in self.encoded], options=options)

    def cached(self) -> None:
        """TransformerLens' ``run_with_cache``, and ranks, entropies and attention of the last position."""
        for some in self.passes():
            ids = Batch.of(some, self.model.device).ids
            with torch.inference_mode():
                logits, cache = self.model.bridge.run_with_cache(ids)
                names = [f"blocks.{layer}.hook_out" for layer in range(self.model.n_layers)]
                last = torch.stack([cache[name][:, -1] for name in ["blocks.0.hook_in", *names]])
                read = self.model.readout(last.flatten(0, 1)).log_softmax(-1)
                _ = (read.exp() * read).sum(-1), read.topk(256), logits[:, -1].sort()
                for layer in range(self.model.n_layers):
                    _ = cache[f"blocks.{layer}.attn.hook_pattern"][:, :, -1].sum(-1)


def contestants(job: Job, longest: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the floor first."""
    chains = tuple(map(resolve, DEFAULT_SAMPLERS))
    found: dict[str, Callable[[], object]] = {
        "floor": job.floor,
        "bare": job.bare,
        "trace": lambda: job.trace(Settings(chains, heads=not job.every, tables=TABLES)),
        "trace to verdicts": job.whole,
    }
    if longest <= CACHED_TOKENS and not job.every:
        found["run_with_cache"] = job.cached
    if longest <= EVERY_TOKENS and not job.every:
        found["every position"] = lambda: job.whole(every=True)
    return found


def measured(job: Job, longest: int, runs: int) -> dict[str, dict[str, float | None]]:
    """Median ratios to the floor of the same turn, and on a GPU peak memory above the weights."""
    work = contestants(job, longest)
    memory = {name: peak(run, job.model.device) for name, run in work.items()}
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs):
        for name, run in work.items():
            spent[name].append(seconds(run, job.model.device))
    return {
        name: {
            "ratio": statistics.median(a / b for a, b in zip(times, spent["floor"], strict=True)),
            "seconds": statistics.median(times),
            "peak_mib": memory[name],
        }
        for name, times in spent.items()
    }


def seconds(run: Callable[[], object], device: Any) -> float:
    """Wall-clock time of one call, the accelerator's work included."""
    start = time.perf_counter()
    run()
    if str(device).startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(run: Callable[[], object], device: Any) -> float | None:
    """MiB that a call, its second, needs above what was held before it; ``None`` on the CPU.

    There, memory that the process kept from earlier calls serves again, so that its size shows no peak.
    """
    run()
    if not str(device).startswith("cuda"):
        return None
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return float(torch.cuda.max_memory_allocated() - before) / MEBIBYTE


def prompts(model: Any, shape: str) -> list[Encoded]:
    """Prompts of a shape, cut from the shipped text.

    ``8x64`` are eight of 64 tokens, ``mixed`` eight of different lengths, ``1x512@all`` one of 512 that is
    probed at every position instead of the last.
    """
    size, _, every = shape.partition("@")
    batch, _, length = size.partition("x")
    lengths = MIXED if size == "mixed" else (int(length),) * int(batch)
    ids = [token for piece in shipped("fit") for token in model.tokenizer.backend(piece.text).input_ids]
    found = []
    for number, n in enumerate(lengths):
        text = model.tokenizer.backend.decode(ids[number * max(lengths) :][:n])
        found.append(model.encode(Prompt(text=text, id=str(number)), position="all" if every else "last"))
    return found


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    names = list(next(iter(results["shapes"].values())))
    weighed = [name for name in ("bare", "trace") if results["device"].startswith("cuda")]
    head = ["shape", *(f"{name}: ratio" for name in names[1:]), *(f"{name} MiB" for name in weighed)]
    rows = [head, ["---"] * len(head)]
    for shape, found in results["shapes"].items():
        ratios = [f"{found[name]['ratio']:.2f}" if name in found else "" for name in names[1:]]
        rows.append([shape, *ratios, *(f"{found[name]['peak_mib']:.0f}" for name in weighed)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Print a table; write JSON or the table of docs/performance.md where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*")
    parser.add_argument("--quick", action="store_true", help="three short shapes, three turns")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    directory, _ = locate(options.model, revision=None, progress=lambda _line: None)
    model = load_model(options.model, dtype=options.dtype, device=options.device)
    hf = load_hugging_face(options.model, directory, options.dtype, False).to(options.device)
    hf.set_attn_implementation("sdpa")
    shapes = options.shapes or (QUICK if options.quick else SHAPES)
    results: dict[str, Any] = {
        "model": options.model,
        "dtype": options.dtype,
        "device": options.device,
        "threads": options.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "shapes": {},
    }
    for shape in shapes:
        encoded = prompts(model, shape)
        longest = max(len(one.token_ids) for one in encoded)
        found = measured(Job(model, hf, encoded), longest, 3 if options.quick else options.runs)
        results["shapes"][shape] = found
        line = ", ".join(f"{name} {one['ratio']:.2f}" for name, one in found.items())
        print(f"{shape}: {line}", flush=True)
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1))
    if options.write:
        write(
            table(results), f"{options.model}, {options.dtype}, {options.device}, {options.threads} threads"
        )


def write(made: str, where: str) -> None:
    """Put the table between the marks of docs/performance.md."""
    path = Path(__file__).parent.parent / "docs" / "performance.md"
    before, mark, rest = path.read_text().partition("<!-- bench -->\n")
    _, end, after = rest.partition("<!-- end -->")
    path.write_text(f"{before}{mark}{where}:\n\n{made}\n{end}{after}")


if __name__ == "__main__":
    main()
