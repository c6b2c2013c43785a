"""Compare a quantised copy of a model with the original on factual prompts; --write updates docs/compare.md.

The matrices of the copy go through a type of the gguf package and back to float32; the embedding goes through
Q8_0, as llama.cpp keeps it finer than the rest; norms stay as they are.

Run: python scripts/eval_quantised.py [MODEL] [--type Q4_0 ...] [--prompts FILE] [--out DIR] [--write]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file

from elimtool import Comparison, Prompt, TraceOptions, compare_models, load_model
from elimtool.model.loading import locate
from elimtool.prompts.file import PromptFile

ROOT = Path(__file__).parent.parent
FACTS = ROOT / "configs" / "suites" / "facts.jsonl"
PAGE = ROOT / "docs" / "compare.md"
MARK = "<!-- Written by scripts/eval_quantised.py. -->"
END = "<!-- Until here. -->"
TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


def quantised(directory: Path, out: Path, name: str) -> dict[str, float]:
    """Write the copy; returns the relative error (Frobenius norm) of matrices and embedding."""
    shutil.copytree(directory, out, dirs_exist_ok=True)
    squares = {"matrices": [0.0, 0.0], "embedding": [0.0, 0.0]}
    for file in out.glob("*.safetensors"):
        tensors = load_file(file)
        for key, value in tensors.items():
            if value.ndim != 2:
                continue
            embedding = "embed" in key or "lm_head" in key
            kind = GGMLQuantizationType["Q8_0" if embedding else name]
            before = value.float().numpy()
            after = dequantize(quantize(before, kind), kind).reshape(before.shape)
            tensors[key] = torch.from_numpy(after).to(value.dtype).contiguous()
            part = squares["embedding" if embedding else "matrices"]
            part[0] += float(np.square(after - before).sum())
            part[1] += float(np.square(before).sum())
        save_file(tensors, file, metadata={"format": "pt"})
    return {part: (error / whole) ** 0.5 for part, (error, whole) in squares.items() if whole}


def rows_of(found: Comparison) -> list[tuple[str, str]]:
    """What changed, as lines of a table."""
    pairs, verdicts = found.table("pairs"), found.table("verdict_differences")
    stats = found.table("statistics")
    flips = found.table("flips")
    first = verdicts[verdicts["final_rank_a"] == 1]
    top = (verdicts["final_rank_a"] == 1) != (verdicts["final_rank_b"] == 1)
    survived = (verdicts["outcome_a"] == "survived") != (verdicts["outcome_b"] == "survived")
    cut = flips[flips["where"] == "stage"]
    rows = [
        ("prompts", f"{int((pairs['status'] == 'ok').sum())} of {len(pairs)}"),
        ("most probable token changed", share(pairs["output_changed"].dropna())),
        ("Jensen-Shannon divergence of the outputs, mean (bits)", f"{pairs['js_output'].mean():.4f}"),
        ("right answer first", f"{len(first)} before, {int((verdicts['final_rank_b'] == 1).sum())} after"),
        ("right answer gains or loses the first place", share(top)),
        ("outcome of the right answer changed", share(verdicts["changed"])),
        ("right answer survives one side alone", share(survived)),
        ("log-probability of the right answer (nats)", tested(stats, "verdict_differences.final_logprob")),
        ("share that survives", tested(stats, "verdict_differences.survived")),
        ("rank of the right answer (decades)", tested(stats, "verdict_differences.rank_ratio")),
    ]
    for side, words in (("b", "cut by a sampler stage of the copy alone"), ("a", "of the original alone")):
        stages = cut[cut["eliminated_in"] == side]["stage"].value_counts()
        told = ", ".join(f"{stage} {count}" for stage, count in stages.items())
        rows.append((words, f"{int(stages.sum())}{f' ({told})' if told else ''}"))
    return rows


def share(flags: pd.Series[bool]) -> str:
    """How many of how many."""
    return f"{int(flags.sum())} of {len(flags)} ({flags.mean():.1%})"


def tested(stats: pd.DataFrame, metric: str) -> str:
    """Mean difference over all pairs with its interval and q-value."""
    row = stats[(stats["metric"] == metric) & (stats["scope"] == "all")].iloc[0]
    interval = f"{row['ci_low']:+.4f} to {row['ci_high']:+.4f}"
    return f"{row['mean_difference']:+.4f} ({interval}; {row['method']}), q = {row['q_value']:.2g}"


def layers_of(found: Comparison, verdicts: pd.DataFrame) -> list[str]:
    """A line for some layers: how far apart residual streams and targets are, and who moved there first."""
    apart = found.table("divergence").groupby("layer")[["relative_l2", "cosine_distance", "js"]].mean()
    lens = found.table("lens_differences")
    lens = lens[~lens["is_foil"]]
    moved = lens["logprob_difference"].abs().groupby(lens["layer"]).mean()
    lost = verdicts["lost_layer_b"].value_counts()
    lines = [
        "| after layer | relative L2 | 1 - cosine | JS, raw lens (bits) |"
        " answer's log-probability, mean absolute (nats) | answers lost here: before, after |",
        "|---|---|---|---|---|---|",
    ]
    before = verdicts["lost_layer_a"].value_counts()
    for layer, row in apart.iterrows():
        name = "embedding" if layer == -1 else str(layer)
        lines.append(
            f"| {name} | {row['relative_l2']:.4f} | {row['cosine_distance']:.2g} | {row['js']:.4f} |"
            f" {moved[layer]:.3f} | {before.get(layer, 0)}, {lost.get(layer, 0)} |"
        )
    return lines


def text_of(found: Comparison, model: str, kind: str, errors: dict[str, float]) -> str:
    """The result in Markdown."""
    verdicts = found.table("verdict_differences")
    error = ", ".join(f"{part} {value:.2%}" for part, value in errors.items())
    lines = [
        f"`{model}` in float32 (A) against the same weights through {kind} and back (B; embedding Q8_0),",
        "over the factual prompts of `configs/suites/facts.jsonl`, through the samplers of llama.cpp.",
        f"Relative error of the weights: {error}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows_of(found)),
        "",
        *layers_of(found, verdicts),
    ]
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the result in its place on the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARK)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{PAGE} has no place for the result: {MARK} ... {END}")
    PAGE.write_text(f"{before}{MARK}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def tell(line: str) -> None:
    """Say what is being waited for."""
    print(line, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--type", choices=TYPES, action="append", help="repeatable; Q4_0 and Q8_0 without")
    parser.add_argument("--prompts", type=Path, default=FACTS)
    parser.add_argument("--out", type=Path, help="keep the comparisons in this folder")
    parser.add_argument("--write", action="store_true", help="put the result in docs/compare.md")
    given = parser.parse_args()
    prompts = [
        record.prompt for record in PromptFile(given.prompts).records() if isinstance(record.prompt, Prompt)
    ]
    texts = []
    for kind in given.type or ("Q4_0", "Q8_0"):
        found, errors = measured(given.model, kind, prompts)
        if given.out:
            found.save(given.out / f"{Path(given.model).name}-{kind}", overwrite=True)
        texts.append(f"#### {kind}\n\n{text_of(found, given.model, kind, errors)}")
        print(texts[-1])
    if given.write:
        write("\n\n".join(texts))


def measured(model: str, kind: str, prompts: list[Prompt]) -> tuple[Comparison, dict[str, float]]:
    """The comparison of a model with a copy of one type, and the relative errors of the copy's weights."""
    with tempfile.TemporaryDirectory() as folder:
        directory, _ = locate(model, revision=None, progress=tell)
        copy = Path(folder) / f"{Path(model).name}-{kind}"
        errors = quantised(directory, copy, kind)
        found = compare_models(
            lambda: load_model(model),
            lambda: load_model(str(copy)),
            prompts,
            options=TraceOptions(samplers=("llama.cpp",), lens="raw"),
            progress=tell,
        )
    return found, errors


if __name__ == "__main__":
    main()
