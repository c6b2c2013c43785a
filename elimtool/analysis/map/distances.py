"""Make the tables of how far heads look, and how much of that position alone explains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from elimtool.analysis.map.named import NO_ROTATION
from elimtool.analysis.map.sums import TEXT, Array, Sums
from elimtool.analysis.map.units import FEWEST_ROWS, SHOWS_NONE, SINKS_ALONE
from elimtool.files.rows import Row, Rows

NAMES = ("lift", "score", "rows", "seen", "own", "n", "read", "scored")
HALF, MOST = 0.5, 0.9
"""Shares of the lift over all distances that are within ``d50`` and ``d90``."""


def distances(sums: Sums) -> dict[str, Rows]:
    """Make the rows of ``head_distances`` and ``head_kernels``."""
    by_distance: Rows = []
    kernels: Rows = []
    text = {name: sums.each("distances", name, TEXT).sum(0) for name in NAMES}
    code = sums.each("distances", "why_not", TEXT)[0]
    for layer in range(sums.n_layers):
        for head in range(sums.n_heads):
            one = Looks(sums, text | {"why_not": code}, layer, head)
            by_distance += one.rows()
            kernels.append(one.summed_up())
    return {"head_distances": by_distance, "head_kernels": kernels}


class Looks:
    """How far one head looks.

    Args:
        sums: The map's sums.
        text: Those over passages, by name, each with a first axis of layers.
        layer: The layer.
        head: The head.

    Attributes:
        lift: Attention by distance over what even attention gives, NaN where nothing is seen.
        score: Mean score by distance, likewise.
        kernel: Score by distance of the mean query and key; ``None`` where the rotation cannot be read.
    """

    def __init__(self, sums: Sums, text: Mapping[str, Array], layer: int, head: int) -> None:
        self.sums, self.text, self.layer, self.head = sums, text, layer, head
        rows, self.why = self._of("rows")[head], None
        if not self._of("read"):
            self.why = SHOWS_NONE
        elif rows < FEWEST_ROWS:
            self.why = SINKS_ALONE
        seen = self._of("seen")
        unseen = np.full(seen.shape, np.nan)
        self.lift, self.score, self.kernel = unseen, unseen, None
        if self.why is None:
            self.lift = np.where(seen > 0, self._of("lift")[head] / rows, np.nan)
        if self._of("scored"):
            with np.errstate(invalid="ignore"):
                self.score = np.where(seen > 0, self._of("score")[head] / seen, np.nan)
        self.no_kernel = SHOWS_NONE if not self._of("read") else None
        if self.no_kernel is None:
            code = int(self._of("why_not"))
            self.no_kernel = NO_ROTATION[code - 1] if code else None
        self.n = self._of("n")
        if self.no_kernel is None and self.n > 0:
            self.kernel = self._kernel()

    def _of(self, name: str) -> Array:
        found: Array = self.text[name][self.layer]
        return found

    def _total(self, name: str) -> Array:
        return self.sums.total("distances", f"{name}.{self.layer}")

    def _kernel(self) -> Array:
        passes = self.sums.total("distances", "passes")
        cos, sin = self._total("cos") / passes, self._total("sin") / passes
        query = self._total("query")[self.head] / self.n
        key = self._total("key")
        return kernel(query, key[self.head * len(key) // self.sums.n_heads] / self.n, cos, sin)

    def rows(self) -> Rows:
        """Make the rows of ``head_distances``."""
        return [
            {
                "layer": self.layer,
                "head": self.head,
                "distance": at,
                "lift": _number(self.lift[at]),
                "score": _number(self.score[at]),
                "kernel": None if self.kernel is None else float(self.kernel[at]),
            }
            for at in range(len(self.lift))
        ]

    def summed_up(self) -> Row:
        """Make the row of ``head_kernels``."""
        found: Row = {
            "layer": self.layer,
            "head": self.head,
            "kv_group": self.sums.group_of(self.head),
            **dict.fromkeys(("self_bias_position", "self_bias_content", "self_bias_net", "kernel_r")),
            **dict.fromkeys(("d50", "d90", "peak")),
            "unmeasured": self.why,
            "no_kernel": self.no_kernel,
        }
        if self.kernel is not None:
            position = float(self.kernel[0] - self.kernel[1])
            content = float(self._of("own")[self.head] / self.n - self.kernel[0])
            found |= {
                "self_bias_position": position,
                "self_bias_content": content,
                "self_bias_net": position + content,
                "kernel_r": correlation(self.kernel, self.score),
            }
        if self.why is None and np.nansum(self.lift) > 0:
            found |= {"d50": reach(self.lift, HALF), "d90": reach(self.lift, MOST)}
            found["peak"] = int(np.nanargmax(self.lift))
        return found


def kernel(query: Array, key: Array, cos: Array, sin: Array) -> Array:
    """Return the score of a query on a key at each distance.

    Args:
        query: Times the scale, first channels of all pairs, second ones, then those that stay.
        key: Likewise.
        cos: Cosine of each distance's and pair's angle, times the rotation's factor, [distances, pairs].
        sin: Its sine.
    """
    pairs = cos.shape[1]
    one, other, rest = query[:pairs], query[pairs : 2 * pairs], query[2 * pairs :]
    first, second, left = key[:pairs], key[pairs : 2 * pairs], key[2 * pairs :]
    turned = (cos * one - sin * other) * first + (cos * other + sin * one) * second
    found: Array = (turned * cos[0]).sum(1) + rest @ left
    return found


def correlation(one: Array, other: Array) -> float | None:
    """Return Pearson's correlation over the distances that both have; ``None`` where either is constant."""
    known = ~np.isnan(one) & ~np.isnan(other)
    one, other = one[known], other[known]
    if len(one) < 3 or np.ptp(one) <= 1e-9 * np.abs(one).max() or np.ptp(other) <= 1e-9 * np.abs(other).max():
        return None
    return float(np.corrcoef(one, other)[0, 1])


def reach(lift: Array, share: float) -> int:
    """Return the smallest distance within which a share of the lift over all distances is."""
    whole = np.nancumsum(lift)
    return int(np.argmax(whole >= share * whole[-1]))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
