"""Measure how small a change of the weights an example check file detects, and how often it fails falsely.

One matrix of the model is perturbed by Gaussian noise, in sizes relative to the standard deviation of its
entries, with ten seeds per size. Unperturbed reruns vary batch size and threads. Nothing else is random.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from elimtool.analysis.check.findings import Report
from elimtool.analysis.check.gate import judge_run
from elimtool.analysis.check.read import read_checks
from elimtool.tasks.check import measure
from elimtool.tasks.check.prompts import prompts_of

CHECKS = Path(__file__).parents[1] / "configs" / "checks" / "capitals.yaml"
SIZES = (0.01, 0.03, 0.1, 0.3, 1.0)
SEEDS = 10
RERUNS = 50


def main() -> None:
    """Perturb, check, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checks", nargs="?", type=Path, default=CHECKS)
    parser.add_argument("--matrix", default="model.layers.20.mlp.down_proj", help="name of a linear layer")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="perturbed models a size")
    parser.add_argument("--reruns", type=int, default=RERUNS, help="unperturbed reruns")
    given = parser.parse_args()
    checks = read_checks(given.checks)
    wanted = checks.file.checks
    prompts = prompts_of(checks, wanted)
    model = measure.load(checks, None, {}, None)
    weight = matrix(model, given.matrix)

    def judged(batch_size: int, threads: int | None) -> Report:
        with measure.threads(threads):
            run = measure.measure(model, prompts, measure.options_of(checks, wanted, batch_size))
        return judge_run(checks, run).report

    print(f"{given.checks.name}: {len(wanted)} checks, {len(prompts)} prompts, {model.name}")
    spread = f"standard deviation of its entries {weight.std():.4f}"
    print(f"noise on {given.matrix} {tuple(weight.shape)}, {spread}")
    kept = weight.detach().clone()
    for size in SIZES:
        caught, by = 0, Counter[str]()
        for seed in range(given.seeds):
            noise = torch.randn(kept.shape, generator=torch.Generator().manual_seed(seed)).to(kept)
            weight.data.copy_(kept + size * kept.std() * noise)
            report = judged(8, None)
            caught += report.exit_code == 10
            by.update(result.check.id for result in report.failed)
        told = ", ".join(f"{name} {count}" for name, count in by.most_common(4)) or "none"
        print(f"size {size:5}: caught {caught} of {given.seeds}  (by {told})")
    weight.data.copy_(kept)
    sizes, threads = (1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4)
    settings = [(sizes[i % 8], threads[(i // 8) % 4]) for i in range(given.reruns)]
    alarms = sum(not judged(*setting).passed for setting in settings)
    told = "unperturbed, batch sizes 1 to 8 and 1 to 4 threads"
    print(f"{told}: {alarms} false alarms in {given.reruns} reruns")


def matrix(model: Any, name: str) -> torch.Tensor:
    """The weight of a linear layer of the wrapped model, by its name there."""
    plain = name.removesuffix(".weight")
    found = {
        key.replace("._original_component", "").removesuffix(".weight"): value
        for key, value in model.hf.named_parameters()
    }
    if plain not in found:
        raise SystemExit(f"no matrix '{name}'; some are: {', '.join(list(found)[:12])}")
    return found[plain]


if __name__ == "__main__":
    main()
