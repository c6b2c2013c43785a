"""Compare a course over layers with courses that it is exchangeable with if nothing is special about it.

P-values by rank among all courses, and corrected for all layers by the furthest that each course gets
anywhere (single-step maxT, Westfall and Young 1993, "Resampling-Based Multiple Testing"): exact, whatever the
layers have to do with each other. Distances are in standard deviations of all courses, as those of layers
differ; the least p-value of each course would not do, since a tenth of a hundred courses are first somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST = 19
"""Controls needed: with fewer, a value beyond all of them has a chance (1 / (n + 1)) above 5 %."""
BEYOND = 0.05
"""Largest p-value of a layer that counts."""
IN_A_ROW = 3
"""Layers in a row that must be beyond the controls before a course counts as surfaced."""


@dataclass(frozen=True, slots=True)
class AmongOthers:
    """A course among its controls.

    Attributes:
        p: Share of all courses, its own included, that are as far out at a layer, [layers].
        adjusted: Share of all courses that are somewhere as far out as it is at this layer, in standard
            deviations of their layer, [layers].
        surfaces: Index of the first of ``IN_A_ROW`` layers in a row with p up to ``BEYOND``, if there is one.
        chance: Share of the controls that surface in the same way somewhere.
    """

    p: npt.NDArray[np.float64]
    adjusted: npt.NDArray[np.float64]
    surfaces: int | None
    chance: float


def judged(courses: npt.NDArray[np.floating]) -> AmongOthers | None:
    """Judge the first of some courses by the others.

    Args:
        courses: [courses, layers]; a larger number is farther out. Equal numbers are as far out as each
            other.

    Returns:
        ``None`` with fewer than ``LEAST`` controls.
    """
    count = len(courses)
    if count <= LEAST:
        return None
    rising = np.sort(courses, axis=0)
    as_far = np.stack(
        [
            count - column.searchsorted(values, "left")
            for column, values in zip(rising.T, courses.T, strict=True)
        ],
        axis=1,
    )
    p = as_far / count
    spread = courses.std(0)
    far = (courses - courses.mean(0)) / np.where(spread > 0, spread, np.inf)
    furthest = np.sort(far.max(1))
    first = [_first_run(row <= BEYOND) for row in p]
    return AmongOthers(
        p[0],
        np.maximum(p[0], (count - furthest.searchsorted(far[0], "left")) / count),  # ties that rounding parts
        first[0],
        sum(one is not None for one in first[1:]) / (count - 1),
    )


def _first_run(flags: npt.NDArray[np.bool_]) -> int | None:
    """Find the first of ``IN_A_ROW`` true flags in a row."""
    for start in range(len(flags) - IN_A_ROW + 1):
        if flags[start : start + IN_A_ROW].all():
            return start
    return None
