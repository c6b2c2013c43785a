"""Compare variants that were all scored on the same items: their spread, and the effect of each factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elimtool.analysis.statistics.base import AT_ONCE, SPREADS, Values, generator
from elimtool.analysis.statistics.crossed import FEWEST
from elimtool.analysis.statistics.families import holm
from elimtool.analysis.statistics.flips import sign_flips
from elimtool.analysis.statistics.proportions import t_interval

PERMUTATIONS = 2000
"""Data sets with permuted variants, for the spread that chance gives."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the best variant is from the worst.

    Attributes:
        spread: Largest mean minus smallest.
        null: Mean spread where the labels of variants are permuted within items.
        null_95: What 95 % of these do not exceed.
        p_value: Share of data sets, the observed one included, with a spread as large.
        holdout: Best and worst picked on one half of the items and scored on the other, both ways, averaged:
            0 on average where all variants are alike. ``None`` for fewer than two items.
    """

    spread: float
    null: float
    null_95: float
    p_value: float
    holdout: float | None


def spread_of(values: Values, seed: int = 0) -> Spread:
    """Measure the spread of variants, and what chance alone gives.

    Source: Sclar et al. 2024, "Quantifying language models' sensitivity to spurious features in prompt
    design" (FormatSpread), for the spread; its null and the held-out spread are of a permutation test and of
    cross-validation.

    Args:
        values: [variants, items] outcomes, none missing, items in order of name.
        seed: Seed of the permutations.
    """
    variants, items = values.shape
    random = generator(seed, SPREADS)
    spreads = []
    step = max(1, AT_ONCE // values.size)
    for start in range(0, PERMUTATIONS, step):
        copies = np.repeat(values[None], min(step, PERMUTATIONS - start), 0)
        spreads.append(np.ptp(random.permuted(copies, axis=1).mean(2), axis=1))
    null = np.concatenate(spreads)
    spread = float(np.ptp(values.mean(1)))
    hits = int((null >= spread - 1e-12).sum())
    return Spread(
        spread,
        float(null.mean()),
        float(np.quantile(null, 0.95)),
        (1 + hits) / (1 + PERMUTATIONS),
        _holdout(values) if items > 1 and variants > 1 else None,
    )


def _holdout(values: Values) -> float:
    halves = values[:, ::2].mean(1), values[:, 1::2].mean(1)
    found = []
    for picked, scored in (halves, halves[::-1]):
        # of equal ones the mean, so that their order does not matter
        ends = (
            scored[np.isclose(picked, end, rtol=0, atol=1e-12)].mean() for end in (picked.max(), picked.min())
        )
        best, worst = ends
        found.append(float(best - worst))
    return sum(found) / 2


@dataclass(frozen=True, slots=True)
class LevelEffect:
    """What one level of a factor does to the outcome.

    Attributes:
        level: Its name.
        n_variants: Variants that have it.
        main_effect: Mean over items of its mean minus the mean of all levels. The effects of a factor sum to
            0, so that one bad level lifts the others.
        ci_low: Lower end of its 95 % interval, Student's t over items; ``None`` for fewer than two.
        ci_high: Upper end.
        against_best: Its mean minus that of the best level.
        p_value: Sign flips of items; ``None`` for fewer than ``FEWEST``.
        p_adjusted: Adjusted over the levels of the factor (Holm).
    """

    level: str
    n_variants: int
    main_effect: float
    ci_low: float | None
    ci_high: float | None
    against_best: float
    p_value: float | None
    p_adjusted: float | None


def main_effects(values: Values, levels: Sequence[str], seed: int = 0, best: int = 1) -> list[LevelEffect]:
    """Estimate the main effect of each level of a factor.

    Args:
        values: [variants, items] outcomes, none missing.
        levels: [variants] level of each variant, two different ones at least.
        seed: Seed of the p-values.
        best: 1 if larger outcomes are better, -1 if smaller ones are.

    Returns:
        The levels in order of first use.
    """
    names = list(dict.fromkeys(levels))
    means = np.stack([values[_where(levels, name)].mean(0) for name in names])  # [levels, items]
    effects = means - means.mean(0)
    items = effects.shape[1]
    overall = means.mean(1)
    p_values = sign_flips(effects.T, seed) if items >= FEWEST else None
    adjusted = None if p_values is None else holm(p_values)
    found = []
    for place, name in enumerate(names):
        low, high = t_interval(effects[place]) if items > 1 else (None, None)
        found.append(
            LevelEffect(
                name,
                int(_where(levels, name).sum()),
                float(effects[place].mean()),
                low,
                high,
                float(overall[place] - best * (best * overall).max()),
                None if p_values is None else float(p_values[place]),
                None if adjusted is None else float(adjusted[place]),
            )
        )
    return found


def _where(levels: Sequence[str], name: str) -> npt.NDArray[np.bool_]:
    return np.array([one == name for one in levels])
