"""How well a sweep's searches find the spread of many variants, and how far chance alone spreads equal ones.

    python scripts/eval_sweep.py [--repeats 20]

Variants have rates around one half (standard deviation 0.07), outcomes are yes or no. Printed are means over
repeats: the spread of all variants, and that of the two that each search found, both on all items.
"""

from __future__ import annotations

import argparse

import numpy as np

from elimtool.analysis.populations.sweep.search import SEARCHED, search
from elimtool.analysis.statistics.factors import spread_of

VARIANTS, ITEMS, SPREAD = 320, 1000, 0.07


def searched(repeats: int) -> None:
    """Print what each search finds with 40,000 and 10,000 calls of 320,000."""
    for budget in (40_000, 10_000):
        found: dict[str, list[float]] = {name: [] for name in ("all", *SEARCHED)}
        for seed in range(repeats):
            random = np.random.default_rng(seed)
            rates = np.clip(random.normal(0.5, SPREAD, VARIANTS), 0, 1)
            values = (random.random((VARIANTS, ITEMS)) < rates[:, None]).astype(float)
            found["all"].append(float(np.ptp(values.mean(1))))
            for name in SEARCHED:
                got = search(name, lambda arms, a, b: values[arms, a:b], VARIANTS, ITEMS, budget, seed=seed)  # noqa: B023
                found[name].append(float(values[got.best].mean() - values[got.worst].mean()))
        told = ", ".join(f"{name} {np.mean(some):.3f}" for name, some in found.items())
        print(f"{VARIANTS} variants x {ITEMS} items, {budget:,} calls: {told}")


def equal(repeats: int) -> None:
    """Print how far equal variants spread, and the held-out spread of the same."""
    for variants, items in ((27, 50), (10, 20)):
        for rate in (0.3, 0.5):
            random = np.random.default_rng(1)
            made = [(random.random((variants, items)) < rate).astype(float) for _ in range(repeats * 5)]
            found = [spread_of(one) for one in made]
            spread, held = (np.mean([getattr(one, name) for one in found]) for name in ("spread", "holdout"))
            small = np.mean([one.p_value <= 0.05 for one in found])
            print(
                f"{variants} equal variants x {items} items, rate {rate}: spread {spread:.2f},"
                f" held out {held:+.3f}, p <= 0.05 in {small:.0%}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    searched(args.repeats)
    equal(args.repeats)
