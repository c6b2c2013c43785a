"""Find runs of layers at which two groups differ, by cluster tests over templates and over words."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from elimtool.analysis.statistics.base import (
    CLUSTERS,
    LEVEL,
    ONSETS,
    SIGNIFICANT,
    Values,
    generator,
    t_quantile,
)
from elimtool.analysis.statistics.bootstrap import draw_weights
from elimtool.analysis.statistics.flips import assignments, exhausts

DRAWS = 1000
"""Bootstrap draws of templates for the range of the first layer."""
FLAT = 1e-9
"""Spread, relative to the largest difference, under which a layer counts as constant: it has no t."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A run of layers with t beyond its critical value, all of one sign.

    Attributes:
        first: Index of its first layer.
        last: Index of its last layer.
        mass: Sum of t over its layers.
        p_value: Share of data sets with flipped signs whose largest absolute mass is as large. It says that
            there is a difference somewhere, not that it begins at ``first``.
    """

    first: int
    last: int
    mass: float
    p_value: float = 1.0


@dataclass(frozen=True, slots=True)
class Skew:
    """Layers at which two groups differ.

    Attributes:
        templates: Clusters over templates.
        fillers: Clusters over pairs of words; ``None`` where words are no random factor.
        sign: [layers] -1 or 1 where the groups differ in a cluster of each kind of unit, else 0.
        onset: 5 and 95 % bounds of the first such layer over bootstrap draws of templates; ``None`` where
            there is none.
    """

    templates: tuple[Cluster, ...]
    fillers: tuple[Cluster, ...] | None
    sign: npt.NDArray[np.int_]
    onset: tuple[float, float] | None

    @property
    def first(self) -> int | None:
        """Index of the first layer at which they differ."""
        return int(np.flatnonzero(self.sign)[0]) if self.sign.any() else None


def skew(cells: Values, crossed: bool, seed: int = 0) -> Skew:
    """Find the layers at which two groups differ.

    Source: Maris and Oostenveld 2007, "Nonparametric statistical testing of EEG- and MEG-data".

    Args:
        cells: [templates, word pairs, layers] differences; at least two templates.
        crossed: Whether pairs of words are a random factor too; then at least two of them.
        seed: Seed of flips and draws.
    """
    rows = cells.mean(1)
    clusters, edge = cluster_test(rows, seed)
    by_words, edge_words = cluster_test(cells.mean(0), seed) if crossed else (None, 0.0)
    sign = _sign(clusters, cells.shape[2])
    if by_words is not None:
        sign = np.where(sign == _sign(by_words, cells.shape[2]), sign, 0)
    onset = None
    if sign.any():
        firsts = []
        templates = len(cells)
        flat = cells.reshape(templates, -1)
        for weights in draw_weights(templates, DRAWS, generator(seed, ONSETS)):
            columns = (weights @ flat / templates).reshape(-1, *cells.shape[1:])
            found = _weighted_sign(weights, rows, edge)
            if crossed:
                found = np.where(found == _beyond(_t(columns), edge_words, cells.shape[1]), found, 0)
            firsts += [int(one.argmax()) for one in found != 0 if one.any()]
        onset = tuple(float(one) for one in np.quantile(firsts, (0.05, 0.95))) if firsts else None
    return Skew(clusters, by_words, sign, onset)  # type: ignore[arg-type]


def cluster_test(values: Values, seed: int = 0) -> tuple[tuple[Cluster, ...], float]:
    """Find clusters of layers and test them by flipping the signs of units.

    Args:
        values: [units, layers] differences, two units or more.
        seed: Seed of the flips.

    Returns:
        Clusters in order, and the smallest absolute mass that is significant.
    """
    units = len(values)
    critical = t_quantile((1 + LEVEL) / 2, units - 1)
    found = _clusters(_t(values[None])[0], critical)
    squares = (values**2).sum(0)
    largest = []
    for signs in assignments(units, generator(seed, CLUSTERS)):
        means = signs @ values / units
        largest.append(_largest_mass(_t_of(means, squares, units, values), critical))
    masses = np.concatenate(largest)
    own = max((abs(one.mass) for one in found), default=0.0)
    if not exhausts(units):  # the data as they are count as one of the assignments
        masses = np.append(masses, own)
    total = len(masses)
    tested = tuple(
        replace(one, p_value=float((masses >= abs(one.mass) * (1 - 1e-9)).sum()) / total) for one in found
    )
    place = total - int(SIGNIFICANT * total)  # so many masses at least as large leave p at 0.05
    return tested, float(np.sort(masses)[min(place, total - 1)])


def _t(values: Values) -> Values:
    """T of [draws, units, layers] over units, [draws, layers]; 0 where a layer is constant."""
    units = values.shape[1]
    means = values.mean(1)
    spread = values.std(1, ddof=1)
    flat = spread <= FLAT * np.abs(values).max(1)
    return np.where(flat, 0.0, means / np.where(flat, 1.0, spread) * np.sqrt(units))


def _t_of(means: Values, squares: Values, units: int, values: Values) -> Values:
    """T of data sets with flipped signs, whose sums of squares are those of the data."""
    variance = np.maximum(squares - units * means**2, 0) / (units - 1)
    flat = np.sqrt(variance) <= max(FLAT, 1e-7) * np.abs(values).max(0)  # squares cancel to half the digits
    found: Values = np.where(flat, 0.0, means / np.sqrt(np.where(flat, 1.0, variance) / units))
    return found


def _clusters(t: Values, critical: float) -> list[Cluster]:
    found: list[Cluster] = []
    for layer, one in enumerate(t.tolist()):
        if abs(one) <= critical:
            continue
        if found and found[-1].last == layer - 1 and found[-1].mass * one > 0:
            found[-1] = replace(found[-1], last=layer, mass=found[-1].mass + one)
        else:
            found.append(Cluster(layer, layer, one))
    return found


def _largest_mass(t: Values, critical: float) -> Values:
    """Largest absolute mass of a cluster in each of [draws, layers]."""
    running, best = np.zeros(len(t)), np.zeros(len(t))
    for one in t.T:
        running = np.where(np.abs(one) > critical, np.where(running * one > 0, running, 0.0) + one, 0.0)
        best = np.maximum(best, np.abs(running))
    return best


def _sign(clusters: tuple[Cluster, ...], layers: int) -> npt.NDArray[np.int_]:
    """Sign of the significant cluster that each layer is in, else 0."""
    sign = np.zeros(layers, dtype=np.int_)
    for one in clusters:
        if one.p_value <= SIGNIFICANT:
            sign[one.first : one.last + 1] = 1 if one.mass > 0 else -1
    return sign


def _weighted_sign(weights: Values, rows: Values, edge: float) -> npt.NDArray[np.int_]:
    """Signs of the layers in clusters of significant mass, for each draw of units, [draws, layers]."""
    units = len(rows)
    means = weights @ rows / units
    t = _t_of(means, weights @ rows**2, units, rows)
    return _beyond(t, edge, units)


def _beyond(t: Values, edge: float, units: int) -> npt.NDArray[np.int_]:
    """Signs of the layers of [draws, layers] in clusters of absolute mass ``edge`` or more, else 0."""
    critical = t_quantile((1 + LEVEL) / 2, units - 1)
    sign = np.where(np.abs(t) > critical, np.sign(t), 0).astype(np.int_)
    mass = np.where(sign != 0, t, 0.0)
    for layer in range(1, t.shape[1]):  # sums from the left within a cluster, then its total to the left
        same = (sign[:, layer] == sign[:, layer - 1]) & (sign[:, layer] != 0)
        mass[:, layer] += np.where(same, mass[:, layer - 1], 0.0)
    for layer in range(t.shape[1] - 2, -1, -1):
        same = (sign[:, layer] == sign[:, layer + 1]) & (sign[:, layer] != 0)
        mass[:, layer] = np.where(same, mass[:, layer + 1], mass[:, layer])
    return np.where(np.abs(mass) >= edge, sign, 0)
