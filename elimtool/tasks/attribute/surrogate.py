"""Score spans by a linear surrogate, fitted to the effects of random ablations on a target.

Source: ContextCite, Cohen-Wang et al. 2024 (arXiv 2409.00729): log-odds of the target after random removals
of half of the parts, fitted by a LASSO whose weights are the attributions, and judged by the rank
correlation of its predictions on ablations that it was not fitted to (linear datamodelling score).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elimtool.analysis.attribute import rank_correlation
from elimtool.tasks.attribute.found import Found
from elimtool.tasks.attribute.options import FEWEST
from elimtool.tasks.attribute.subject import Subject

PENALTY = 0.01
"""Weight of the L1 penalty, in standard deviations of the outcomes."""
FOLDS = 4
SWEEPS = 2000
"""Most proximal gradient steps."""

Numbers = NDArray[np.float64]


def contextcite(subject: Subject) -> Found:
    """Score spans by the weights of the surrogate: log-odds of the target, or nats against foils."""
    kept = subsets(len(subject.spans), subject.options.ablations, subject.options.seed)
    removals = [
        frozenset(
            token
            for span, stays in zip(subject.spans, row, strict=True)
            if not stays
            for token in span.tokens
        )
        for row in kept
    ]
    ran = subject.without(removals)
    outcomes = (ran.values if subject.foils else log_odds(ran.values)).numpy()
    design = kept.astype(np.float64)
    weights, fidelity, r2 = [], [], []
    for column in outcomes.T:
        weights.append(torch.from_numpy(lasso(design, column)[0]))
        judged = cross_validated(design, column)
        fidelity.append(judged[0])
        r2.append(judged[1])
    quality: dict[str, list[float | int | None]] = {
        "samples": [len(kept)] * len(weights),
        "fidelity": list(fidelity),
        "r2": list(r2),
    }
    tokens = ran.tokens + len(subject.one.token_ids)
    unit = "nats" if subject.foils else "logits"
    return Found(
        {None: torch.stack(weights, 1)},
        len(kept) + 1,
        tokens,
        unit=unit,
        shared=ran.shared,
        quality=quality,
    )


def subsets(parts: int, most: int, seed: int) -> NDArray[np.bool_]:
    """Draw different subsets of parts, each part in with probability one half: [subsets, parts].

    Args:
        parts: Number of parts.
        most: Number of subsets; if there are no more, all of them in order.
        seed: Seed of the draw.
    """
    if parts < 31 and 2**parts <= most:
        return (np.arange(2**parts)[:, None] >> np.arange(parts) & 1).astype(bool)
    dice = np.random.default_rng(seed)
    seen: dict[bytes, NDArray[np.bool_]] = {}
    while len(seen) < most:
        row = dice.random(parts) < 0.5
        seen.setdefault(row.tobytes(), row)
    return np.stack(list(seen.values()))


def log_odds(logprobs: Tensor) -> Tensor:
    """Turn log-probabilities into log(p / (1 - p)); a probability that rounds to 1 counts as 1 - 1e-12."""
    safe = logprobs.clamp(max=-1e-12)
    return safe - torch.log(-torch.expm1(safe))


def lasso(design: Numbers, outcomes: Numbers, penalty: float = PENALTY) -> tuple[Numbers, float]:
    """Find weights and intercept that minimise mean squared error / 2 + penalty x spread x sum of |weights|.

    Takes accelerated proximal gradient steps (FISTA, Beck and Teboulle 2009); a part without effect gets
    exactly 0.

    Args:
        design: [samples, parts], 0 or 1.
        outcomes: [samples].
        penalty: In standard deviations of the outcomes.
    """
    centre, level = design.mean(0), float(outcomes.mean())
    inputs, wanted = design - centre, outcomes - level
    # largest eigenvalue of the Hessian: steps of its inverse cannot diverge
    steepest = float(np.linalg.norm(inputs, 2) ** 2) / len(inputs)
    threshold = penalty * float(wanted.std())
    weights = np.zeros(design.shape[1])
    if steepest == 0 or threshold == 0:
        return weights, level
    ahead, momentum = weights, 1.0
    for _ in range(SWEEPS):
        moved = ahead - inputs.T @ (inputs @ ahead - wanted) / len(inputs) / steepest
        new = np.sign(moved) * np.maximum(np.abs(moved) - threshold / steepest, 0.0)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - weights)
        change, weights, momentum = float(np.abs(new - weights).max()), new, following
        if change < 1e-12:
            break
    return weights, level - float(centre @ weights)


def cross_validated(design: Numbers, outcomes: Numbers) -> tuple[float | None, float | None]:
    """Compute rank correlation (mean over folds) and explained variance on ablations left out of the fit."""
    if len(design) < FEWEST or float(outcomes.std()) == 0:
        return None, None
    order = np.random.default_rng(0).permutation(len(design))
    predicted = np.zeros(len(design))
    correlations = []
    for fold in np.array_split(order, FOLDS):
        rest = np.setdiff1d(order, fold)
        weights, level = lasso(design[rest], outcomes[rest])
        predicted[fold] = design[fold] @ weights + level
        correlations.append(rank_correlation(predicted[fold].tolist(), outcomes[fold].tolist()))
    known = [one for one in correlations if one is not None]
    unexplained = float(((predicted - outcomes) ** 2).sum() / ((outcomes - outcomes.mean()) ** 2).sum())
    return (sum(known) / len(known) if known else None), 1 - unexplained
