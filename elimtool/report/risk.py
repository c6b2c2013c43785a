"""Tell how uncertain written answers are: of one prompt, and of a run with what is known to be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elimtool.files.rows import Row

NAMES = {
    "semantic_entropy": "semantic entropy",
    "eigenscore": "EigenScore",
    "rauq": "RAUQ",
    "mean_logprob": "mean log-probability",
    "lookback": "lookback",
}


def risk_sentence(row: Row) -> str:
    """Tell the scores of one prompt's answer; without other prompts they have no scale."""
    same = f"{row['n_clusters']:,} of {row['n_samples']:,} samples say something different"
    said = f"semantic entropy {row['semantic_entropy']:.2g} nats ({same})"
    if row["n_clusters"] == 1:
        said = f"semantic entropy 0: all {row['n_samples']:,} samples say the same"
    more = [
        f"{NAMES[name]} {row[name]:.3g}"
        for name in ("rauq", "eigenscore", "lookback")
        if row[name] is not None
    ]
    return f"Uncertainty of what was written, which is not truth: {', '.join([said, *more])}."


def risk_sentences(found: Mapping[str, Any]) -> list[str]:
    """Tell the summary of a run, see ``elimtool.analysis.risk.summary``."""
    lines = []
    told = [
        f"{NAMES[name]} {one['auroc']:.2f} ({one['ci_low']:.2f} to {one['ci_high']:.2f})"
        for name, one in found["scores"].items()
        if one["auroc"] is not None
    ]
    if told:
        counts = f"{found['n_wrong']:,} wrong answers from {found['n_correct']:,} right ones"
        lines.append(f"risk scores tell {counts} with an AUROC of: {', '.join(told)}")
    elif found["n_correct"] + found["n_wrong"]:
        counts = f"{found['n_correct']:,} right and {found['n_wrong']:,} wrong"
        lines.append(f"of the answers {counts}: too few of one kind to judge risk scores by")
    for row in found["least_certain"]:
        scores = [
            f"{NAMES[name]} {row[name]['value']:.2g} (percentile {row[name]['percentile']:.0f})"
            for name in ("semantic_entropy", "rauq")
            if name in row
        ]
        lines.append(f"least certain: {row['prompt_id']}: {', '.join(scores)}")
    return lines
