"""Pair the records of two groups that differ in the group alone, for statistics over templates and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from elimtool.analysis.populations.records import NEUTRAL, Places, Population, Values
from elimtool.analysis.statistics.crossed import Grid

OTHERS = "others"
"""Name of the mean of all groups but one."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of a record of one group and those of others, all of one tuple.

    Attributes:
        a: Name of the first group.
        b: Name of the second group, or ``OTHERS``.
        templates: [pairs] template of each.
        fillers: [pairs] words of each; one name for all where the words of groups do not belong together.
        categories: [pairs] category of each.
        records: [pairs] of record indices: first group, and each group that it is set against.
    """

    a: str
    b: str
    templates: tuple[str, ...]
    fillers: tuple[str, ...]
    categories: tuple[str | None, ...]
    records: tuple[tuple[Places, ...], ...]

    @classmethod
    def of(cls, population: Population, a: str, others: Sequence[str]) -> Self:
        """Pair the records of a group with those of others.

        Args:
            population: The records.
            a: First group.
            others: The groups that it is set against; of several the mean over groups.
        """
        tuples: dict[str, dict[str, list[int]]] = {}
        for index, one in enumerate(population.records):
            if one.tuple is not None and one.group is not None and one.role != NEUTRAL:
                tuples.setdefault(one.tuple, {}).setdefault(one.group, []).append(index)
        templates, fillers, categories, records = [], [], [], []
        for name, groups in tuples.items():
            if a not in groups or not all(group in groups for group in others):
                continue
            members = [population.records[index] for group in (a, *others) for index in groups[group]]
            words = {one.filler for one in members}
            templates.append(members[0].template)
            # unaligned words make one column; words that nobody names belong to their template
            fillers.append(words.pop() or name if len(words) == 1 else "")
            categories.append(members[0].category)
            records.append(tuple(np.array(groups[group], dtype=np.intp) for group in (a, *others)))
        b = others[0] if len(others) == 1 else OTHERS
        return cls(a, b, tuple(templates), tuple(fillers), tuple(categories), tuple(records))

    def within(self, category: str) -> Self:
        """Return the pairs of a category and those below it."""
        return self.kept([one is not None and _below(one, category) for one in self.categories])

    def kept(self, keep: Sequence[bool]) -> Self:
        """Return some of the pairs."""
        chosen = [place for place, one in enumerate(keep) if one]
        return replace(
            self,
            templates=tuple(self.templates[place] for place in chosen),
            fillers=tuple(self.fillers[place] for place in chosen),
            categories=tuple(self.categories[place] for place in chosen),
            records=tuple(self.records[place] for place in chosen),
        )

    def sides(self, values: Values) -> tuple[Values, Values]:
        """Average an outcome over the records of a group, and over groups, on each side of each pair.

        Args:
            values: [records, ...] an outcome; NaN where it was not measurable.

        Returns:
            [pairs, ...] for either side; NaN where a record has none.
        """
        if all(len(some) == 1 for one in self.records for some in one):
            first, *others = (np.concatenate(groups) for groups in zip(*self.records, strict=True))
            return values[first], np.mean([values[some] for some in others], axis=0)
        means = [[values[some].mean(0) for some in one] for one in self.records]
        first_side = np.stack([one[0] for one in means])
        return first_side, np.stack([np.mean(one[1:], axis=0) for one in means])

    def grid(self, a: Values, b: Values) -> tuple[Grid, int] | None:
        """Put the outcomes of pairs into a grid of templates and words.

        Args:
            a: [pairs] outcomes of the first side.
            b: [pairs] outcomes of the second.

        Returns:
            The grid and the number of pairs with both outcomes; ``None`` where there is none.
        """
        known = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
        if not len(known):
            return None
        names = [self.templates[place] for place in known], [self.fillers[place] for place in known]
        return Grid.of(*names, a[known], b[known]), len(known)


def _below(category: str, above: str) -> bool:
    return category == above or category.startswith(f"{above}/")
