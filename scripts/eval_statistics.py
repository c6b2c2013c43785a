"""Count how often the intervals and tests of analysis/statistics are right where the truth is known.

Groups of words are drawn from one population, so that they do not differ, or differ by a known amount.

Run: python scripts/eval_statistics.py [--draws N]; docs/statistics.md has the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from elimtool.analysis.statistics.base import SIGNIFICANT
from elimtool.analysis.statistics.clusters import skew
from elimtool.analysis.statistics.crossed import Grid, group_difference
from elimtool.analysis.statistics.families import holm
from elimtool.analysis.statistics.paired import mean_differences
from elimtool.analysis.statistics.proportions import newcombe, t_interval, wilson

TEMPLATES, PAIRS = 24, 8
UNITS = (8, 12, TEMPLATES, 48)
LAYERS, PLANTED_AT, PLANTED = 30, 18, 0.4

Values = npt.NDArray[np.float64]


def grids(random: np.random.Generator, draws: int, gap: float = 0.0) -> Iterator[Grid]:
    """Outcomes of two groups of words in templates; both kinds of unit are random, as is their interplay."""
    shape = TEMPLATES, PAIRS
    names = [(u, v) for u in range(TEMPLATES) for v in range(PAIRS)]
    for _ in range(draws):
        sides = []
        template = random.normal(0, 1, TEMPLATES)[:, None]
        for mean in (gap, 0.0):
            slope = random.normal(0, 0.3, TEMPLATES)[:, None]  # templates differ in how far groups are apart
            y = mean + template + slope + random.normal(0, 1, PAIRS) + random.normal(0, 0.5, shape)
            sides.append(y.ravel())
        yield Grid.of([u for u, _ in names], [v for _, v in names], *sides)


def covered(low: float | None, high: float | None, truth: float) -> bool:
    """Whether an interval holds the truth."""
    return low is not None and high is not None and low <= truth <= high


def shares(random: np.random.Generator, draws: int) -> Iterator[tuple[str, float]]:
    """Coverage of the intervals of shares and of bootstrap intervals."""
    rates = np.array([0.5, 0.2, 0.1, 0.2])
    drawn = random.multinomial(40, rates, draws)
    held = [covered(*newcombe(*(float(x) for x in one)), 0.1) for one in drawn]
    yield "Newcombe, 40 pairs, shares 0.7 and 0.6", float(np.mean(held))
    held = [covered(*wilson(int(one), 50), 0.9) for one in random.binomial(50, 0.9, draws)]
    yield "Wilson, 50 items, share 0.9", float(np.mean(held))
    clusters = random.binomial(20, random.beta(8, 4, (draws, 12))) / 20
    held = [covered(*t_interval(one), 8 / 12) for one in clusters]
    yield "Student's t over 12 clusters of 20 items", float(np.mean(held))
    for units in UNITS:
        size = units, draws
        kinds = {"normal": random.normal(1, 1, size), "skewed (exponential)": random.exponential(1, size)}
        for kind, values in kinds.items():
            found = mean_differences(values, 0, np.full_like(values, np.nan))
            held = [covered(one.ci_low, one.ci_high, 1.0) for one in found]
            yield f"BCa, {units} {kind} units", float(np.mean(held))


def report(draws: int) -> Iterator[str]:
    """Lines of the page."""
    random = np.random.default_rng(0)
    null = [group_difference(one) for one in grids(random, draws)]
    rejected = {
        "over templates alone": [one.p_templates for one in null],
        "over word pairs alone": [one.p_fillers for one in null],
        "the larger of both": [one.p_value for one in null],
    }
    yield f"{TEMPLATES} templates, {PAIRS} pairs of words, {draws:,} draws, groups that do not differ:"
    yield ""
    yield "| test | called different (p <= 0.05) |"
    yield "|---|---|"
    for name, p_values in rejected.items():
        yield f"| {name} | {np.mean([p is not None and p <= SIGNIFICANT for p in p_values]):.1%} |"
    values = random.normal(0, 1, (TEMPLATES, 10 * draws))
    tests = np.array([one.p_value for one in mean_differences(values, 0, np.full_like(values, np.nan))])
    any_of_ten = np.mean([holm(one).min() <= SIGNIFICANT for one in tests.reshape(-1, 10)])
    yield f"| any of ten tests over templates of words that do not differ, after Holm | {any_of_ten:.1%} |"
    apart = [group_difference(one) for one in grids(random, draws, 0.5)]
    yield ""
    yield "| 95 % interval | holds the truth |"
    yield "|---|---|"
    for name, found, truth in (("equal groups", null, 0.0), ("groups 0.5 apart", apart, 0.5)):
        share = np.mean([covered(one.ci_low, one.ci_high, truth) for one in found])
        yield f"| two-way t, {name} | {share:.1%} |"
    for name, share in shares(random, draws):
        yield f"| {name} | {share:.1%} |"
    yield ""
    yield from layers(random, draws // 10)


def layers(random: np.random.Generator, draws: int) -> Iterator[str]:
    """Where a difference that begins at a layer is found, and how often one that is not there is."""
    found, ranges, false = [], [], 0
    for _ in range(draws):
        noise = random.normal(size=(TEMPLATES, 1, LAYERS)).cumsum(2) / np.sqrt(np.arange(1, LAYERS + 1))
        false += skew(noise, crossed=False).first is not None
        noise[:, :, PLANTED_AT:] += PLANTED
        planted = skew(noise, crossed=False)
        if planted.onset is not None:
            found.append(planted.first)
            ranges.append(planted.onset[0] <= PLANTED_AT <= planted.onset[1])
    low, middle, high = np.quantile([one for one in found if one is not None], (0.05, 0.5, 0.95))
    yield (
        f"{LAYERS} layers that walk at random, {draws:,} draws: a cluster where there is no difference in"
        f" {false / draws:.1%}. A difference of {PLANTED} sd from layer {PLANTED_AT} on is found in"
        f" {len(found) / draws:.0%}, first at layer {middle:.0f} (median; 90 % in {low:.0f} to"
        f" {high:.0f}); the printed range holds layer {PLANTED_AT} in {np.mean(ranges):.0%}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split()))
    parser.add_argument("--draws", type=int, default=2000)
    print("\n".join(report(parser.parse_args().draws)))


if __name__ == "__main__":
    main()
