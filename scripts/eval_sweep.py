"""How far chance alone spreads variants of equal worth, and how far the same is so where it is held out.

python scripts/eval_sweep.py [--repeats 20]
"""

from __future__ import annotations

import argparse

import numpy as np

from elimtool.analysis.statistics.factors import spread_of


def equal(repeats: int) -> None:
    """Print how far equal variants spread, and the held-out spread of the same."""
    for variants, items in ((27, 50), (10, 20)):
        for rate in (0.3, 0.5):
            random = np.random.default_rng(1)
            made = [(random.random((variants, items)) < rate).astype(float) for _ in range(5 * repeats)]
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
    equal(args.repeats)
