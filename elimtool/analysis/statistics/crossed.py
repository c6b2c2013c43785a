"""Estimate and test differences between groups over two crossed random factors, templates and words.

Words of a group are a second random factor: a test over templates alone calls two groups of words different
in most random splits of one group.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from elimtool.analysis.statistics.base import LEVEL, SIGNIFICANT, Values, t_quantile
from elimtool.analysis.statistics.flips import sign_flips
from elimtool.analysis.statistics.paired import equal_shares, mean_differences

FEWEST = 6
"""Units of either kind that are needed to generalise over them; with fewer templates there is no p-value."""
POWER = 0.8
"""Chance of finding the difference that is called detectable."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Outcomes of two groups in templates with pairs of words.

    Attributes:
        a: [templates, word pairs] outcomes of the first group; one column of means if ``nested``.
        b: The same of the second group.
        templates: Names of the rows.
        fillers: Names of the columns; empty if ``nested``.
        nested: Whether each template has words of its own, so that templates are the one kind of unit.
        dropped: Number of outcomes left out so that no cell is empty.
    """

    a: Values
    b: Values
    templates: tuple[Hashable, ...]
    fillers: tuple[Hashable, ...]
    nested: bool
    dropped: int

    @classmethod
    def of(cls, templates: Sequence[Hashable], fillers: Sequence[Hashable], a: Values, b: Values) -> Grid:
        """Put pairs of outcomes into a grid; outcomes of one cell are averaged.

        Rows or columns with gaps are dropped, most gaps first, until the grid is whole.

        Args:
            templates: [pairs] template of each pair.
            fillers: [pairs] words of each pair, one name for both.
            a: [pairs] outcomes of the first group.
            b: [pairs] outcomes of the second.
        """
        rows, columns = list(dict.fromkeys(templates)), list(dict.fromkeys(fillers))
        nested = len(rows) > 1 and len(set(zip(templates, fillers, strict=True))) == len(columns)
        row = _places(rows, templates)
        column = np.zeros(len(row), int) if nested else _places(columns, fillers)
        shape = len(rows), 1 if nested else len(columns)
        counts = np.zeros(shape)
        np.add.at(counts, (row, column), 1)
        sides = []
        for side in (a, b):
            sums = np.zeros(shape)
            np.add.at(sums, (row, column), side)
            sides.append(np.divide(sums, counts, out=np.full(shape, np.nan), where=counts > 0))
        keep_rows, keep_columns = whole(counts > 0)
        kept = np.ix_(keep_rows, keep_columns)
        return cls(
            sides[0][kept],
            sides[1][kept],
            tuple(rows[index] for index in keep_rows),
            () if nested else tuple(columns[index] for index in keep_columns),
            nested,
            int(counts.sum() - counts[kept].sum()),
        )

    @property
    def over_words(self) -> bool:
        """Whether the result is about groups of words, not only about these words."""
        return self.nested or min(self.a.shape) >= FEWEST


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """How far two groups are apart, and how certain that is.

    Attributes:
        scope: ``groups`` if it generalises over words, else ``words``: it is about these words.
        n_templates: Number of templates.
        n_fillers: Number of pairs of words; ``None`` where each template has its own.
        mean_a: Mean of the first group: a template counts once.
        mean_b: Mean of the second.
        difference: First minus second, in the outcome's unit.
        ci_low: Lower end of its 95 % interval; ``None`` for fewer than two units.
        ci_high: Upper end.
        ci_method: ``two_way_t``, ``bca``, ``percentile``, ``newcombe`` or ``t``.
        d_z: Difference over the standard deviation of templates; ``None`` where they all agree.
        dominance: Mean sign of the templates' differences, -1 .. 1.
        cliffs_delta: Cliff's delta over all outcomes of one group against all of the other, -1 .. 1.
        p_templates: p-value over templates; ``None`` for fewer than ``FEWEST``.
        p_fillers: p-value over pairs of words; ``None`` in scope ``words``, and where words are nested.
        p_value: The larger of the two.
        detectable: Difference that would probably (80 %) have been found; ``None`` where one was, or nothing
            varies.
    """

    scope: str
    n_templates: int
    n_fillers: int | None
    mean_a: float
    mean_b: float
    difference: float
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    d_z: float | None
    dominance: float
    cliffs_delta: float
    p_templates: float | None
    p_fillers: float | None
    p_value: float | None
    detectable: float | None


def group_difference(grid: Grid, seed: int = 0, yes_no: bool = False) -> GroupDifference:
    """Estimate the difference between two groups.

    Over groups of words the interval is that of two-way t (the variance of templates plus that of words minus
    what both count, and at least either), and the p-value the larger of two sign-flip tests, over templates
    and over pairs of words. Over given words both are of templates alone, see ``mean_differences``.

    Args:
        grid: Outcomes, at least one template.
        seed: Seed of interval and p-values.
        yes_no: Whether outcomes are truth values, or shares of them; or minus these, of what is lost.
    """
    cells = grid.a - grid.b
    rows, columns = cells.mean(1), cells.mean(0)
    crossed = grid.over_words and not grid.nested
    enough = len(rows) >= FEWEST
    p_rows = float(sign_flips(rows[:, None], seed)[0]) if enough else None
    p_columns = float(sign_flips(columns[:, None], seed)[0]) if crossed else None
    p_value = p_rows if p_rows is None or p_columns is None else max(p_rows, p_columns)
    df, error = standard_error(cells, crossed)
    interval: tuple[float | None, float | None, str | None]
    if crossed:
        interval = _two_way(grid, cells, df, error, yes_no)
    else:
        interval = _over_templates(grid, rows, seed, yes_no)
    spread = float(rows.std(ddof=1)) if len(rows) > 1 else 0.0
    near = 1e-9 * float(np.abs(rows).max())
    return GroupDifference(
        "groups" if grid.over_words else "words",
        len(rows),
        None if grid.nested else len(columns),
        float(grid.a.mean(1).mean()),
        float(grid.b.mean(1).mean()),
        float(rows.mean()),
        *interval,
        d_z=float(rows.mean()) / spread if spread > near else None,
        dominance=float(np.sign(rows).mean()),
        cliffs_delta=cliffs_delta(grid.a.ravel(), grid.b.ravel()),
        p_templates=p_rows,
        p_fillers=p_columns,
        p_value=p_value,
        detectable=None
        if p_value is None or p_value <= SIGNIFICANT or error == 0
        else (t_quantile((1 + LEVEL) / 2, df) + t_quantile(POWER, df)) * error,
    )


def standard_error(cells: Values, crossed: bool) -> tuple[int, float]:
    """Compute degrees of freedom and standard error of the mean of a grid of differences.

    Args:
        cells: [templates, word pairs].
        crossed: Whether word pairs are a random factor too.
    """
    templates, words = cells.shape
    of_rows = float(cells.mean(1).var(ddof=1)) / templates if templates > 1 else 0.0
    if not crossed:
        return max(templates - 1, 1), sqrt(of_rows)
    of_columns = float(cells.mean(0).var(ddof=1)) / words
    of_cells = float(cells.var(ddof=1)) / cells.size
    return min(templates, words) - 1, sqrt(max(of_rows + of_columns - of_cells, of_rows, of_columns))


def cliffs_delta(a: Values, b: Values) -> float:
    """Compute Cliff's delta: how much more often a value of ``a`` is larger than one of ``b`` than smaller.

    Source: Cliff 1993, "Dominance statistics"; 2 AUC - 1.

    Args:
        a: [n] finite values.
        b: [m] finite values.

    Returns:
        From -1 to 1.
    """
    others = np.sort(b)
    larger = np.searchsorted(others, a, "left").sum()
    smaller = (len(b) - np.searchsorted(others, a, "right")).sum()
    return float(larger - smaller) / (len(a) * len(b))


def _over_templates(
    grid: Grid, rows: Values, seed: int, yes_no: bool
) -> tuple[float | None, float | None, str | None]:
    if not yes_no:
        found = mean_differences(rows[:, None], seed, np.full((len(rows), 1), np.nan))[0]
        return found.ci_low, found.ci_high, found.method
    lost = min(grid.a.min(), grid.b.min()) < 0
    # minus first minus minus second is second minus first
    first, differences = (-grid.a.mean(1), rows) if lost else (grid.b.mean(1), rows)
    found = mean_differences(differences[:, None], seed, first[:, None])[0]
    return found.ci_low, found.ci_high, found.method


def _two_way(grid: Grid, cells: Values, df: int, error: float, yes_no: bool) -> tuple[float, float, str]:
    if yes_no and not cells.any():
        return *equal_shares(abs(float(grid.a.mean())), min(cells.shape)), "newcombe"
    middle, half = float(cells.mean(1).mean()), t_quantile((1 + LEVEL) / 2, df) * error
    return middle - half, middle + half, "two_way_t"


def _places(names: Sequence[Hashable], values: Sequence[Hashable]) -> npt.NDArray[np.intp]:
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[one] for one in values], dtype=np.intp)


def whole(present: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Choose rows and columns without gaps between them, dropping those with most gaps first.

    Of equal ones the last goes first.

    Args:
        present: [rows, columns] whether there is a value.

    Returns:
        Indices of the rows and of the columns that are kept.
    """
    rows, columns = np.arange(present.shape[0]), np.arange(present.shape[1])
    while True:
        gaps = ~present[np.ix_(rows, columns)]
        if not gaps.any():
            return rows, columns
        by_row, by_column = gaps.sum(1), gaps.sum(0)
        if by_row.max() >= by_column.max():
            rows = np.delete(rows, len(rows) - 1 - int(by_row[::-1].argmax()))
        else:
            columns = np.delete(columns, len(columns) - 1 - int(by_column[::-1].argmax()))
