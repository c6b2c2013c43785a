"""Sum items up the tree of their categories, against a taxonomy if there is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elimtool.analysis.populations.coverage.taxonomy import Taxonomy, beginnings
from elimtool.analysis.statistics.crossed import FEWEST
from elimtool.analysis.statistics.flips import sign_flips
from elimtool.analysis.statistics.proportions import t_interval, wilson
from elimtool.files.rows import Row

CHANCE = 0.5
"""Accuracy of guessing between two sides."""
UNCATEGORISED = "uncategorised"
"""Node of items without a category."""


@dataclass(frozen=True)
class Tree:
    """Items by leaf.

    Attributes:
        leaves: Path of each leaf -> its items; empty for a leaf that has none.
        taxonomy: What is asked of them.
    """

    leaves: Mapping[str, Sequence[Row]]
    taxonomy: Taxonomy | None

    @classmethod
    def of(cls, items: Sequence[Row], taxonomy: Taxonomy | None) -> Tree:
        """Put items into the leaves of a taxonomy, or of their own categories.

        Raises:
            ElimError: The taxonomy has no leaf for an item.
        """
        found: dict[str, list[Row]] = {} if taxonomy is None else {path: [] for path in taxonomy.leaves}
        for item in items:
            path = (
                item["category"] or UNCATEGORISED if taxonomy is None else taxonomy.leaf_of(item["category"])
            )
            found.setdefault(path, []).append(item)
        return cls(found, taxonomy)

    def rows(self, seed: int) -> list[Row]:
        """Make the rows of ``coverage``, a path after its beginnings.

        Args:
            seed: Seed of p-values.
        """
        paths = {"": None} | {one: None for path in self.leaves for one in beginnings(path)}
        found = [self._row(path, seed) for path in sorted(paths, key=lambda path: path.split("/"))]
        for row in found:
            rivals = [one["accuracy"] for one in found if one["depth"] == row["depth"] and one["n_items"]]
            row["place"] = 1 + sum(one < row["accuracy"] for one in rivals) if row["n_items"] else None
        return found

    def _row(self, path: str, seed: int) -> Row:
        below = [one for one in self.leaves if path in ("", *beginnings(one))]
        filled = [self.leaves[one] for one in below if self.leaves[one]]
        items = [item for leaf in filled for item in leaf]
        cuts = Counter(f"{one['cut_chain']}: {one['cut_stage']}" for one in items if one["cut_chain"])
        decided = _known(items, "decided_layer")
        low, middle, high = np.percentile(decided, [10, 50, 90]).tolist() if decided else (None, None, None)
        alive = _known(items, "alive")
        return {
            "node": path,
            "depth": len(path.split("/")) if path else 0,
            "is_leaf": path in self.leaves,
            "n_items": len(items),
            **self._accuracy(path, filled, seed),
            "mean_difference": _mean_of_means(filled, "difference"),
            "decided_layer": middle,
            "decided_low": low,
            "decided_high": high,
            "alive_share": float(np.mean(alive)) if alive else None,
            "top_cut_stage": min(cuts, key=lambda name: (-cuts[name], name)) if cuts else None,
            **self._demanded(path, below),
        }

    def _accuracy(self, path: str, filled: Sequence[Sequence[Row]], seed: int) -> Row:
        """Make the columns on accuracy and its chance, of a leaf or of the mean over leaves."""
        names = ("accuracy", "ci_low", "ci_high", "worst_low", "worst_high", "chance", "p_value")
        found: Row = dict.fromkeys(names)
        if not filled:
            return found
        shares = np.array([np.mean([one["correct"] for one in leaf]) for leaf in filled], dtype=float)
        two_sided = all(one["difference"] is not None for leaf in filled for one in leaf)
        found["accuracy"] = float(shares.mean())
        found["chance"] = CHANCE if two_sided else None
        if len(filled) > 1:
            equal = bool((shares == shares[0]).all())  # then Student's interval has no width
            low, high = wilson(shares.sum(), len(shares)) if equal else t_interval(shares)
            found["ci_low"], found["ci_high"] = max(low, 0.0), min(high, 1.0)
            if two_sided and len(filled) >= FEWEST:
                found["p_value"] = float(sign_flips((shares - CHANCE)[:, None], seed)[0])
            return found
        hits, n = sum(one["correct"] for one in filled[0]), len(filled[0])
        found["ci_low"], found["ci_high"] = wilson(hits, n)
        if path in self.leaves:
            found["worst_low"], found["worst_high"] = wilson(hits, n, sum(map(bool, self.leaves.values())))
        if two_sided:
            from scipy.stats import binomtest

            found["p_value"] = float(binomtest(hits, n, CHANCE).pvalue)
        return found

    def _demanded(self, path: str, below: Sequence[str]) -> Row:
        """Make the columns on what the taxonomy asks."""
        names = ("title", "min_items", "required", "covered", "structural")
        found: Row = dict.fromkeys(names)
        if self.taxonomy is None:
            return found
        nodes = self.taxonomy.nodes
        if path in nodes:
            found["title"] = nodes[path].title
        if path in self.leaves:
            found["min_items"], found["required"] = nodes[path].min_items, nodes[path].min_accuracy
        weights = np.array([nodes[one].weight for one in below], dtype=float)
        covered = np.array([self._covered(one) for one in below])
        found["covered"] = bool(covered.all())
        total = weights.sum()
        found["structural"] = float(weights[covered].sum() / total) if total else None
        return found

    def _covered(self, leaf: str) -> bool:
        assert self.taxonomy is not None
        asked, items = self.taxonomy.nodes[leaf], self.leaves[leaf]
        if len(items) < asked.min_items:
            return False
        low, _ = wilson(sum(one["correct"] for one in items), len(items))
        return low >= asked.min_accuracy


def _known(items: Sequence[Row], name: str) -> list[Any]:
    return [one[name] for one in items if one[name] is not None]


def _mean_of_means(filled: Sequence[Sequence[Row]], name: str) -> float | None:
    means = [float(np.mean(known)) for leaf in filled if (known := _known(leaf, name))]
    return float(np.mean(means)) if means else None
