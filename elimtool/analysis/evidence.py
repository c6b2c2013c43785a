"""Judge the causal test of a verdict's culprits, and put the finding into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elimtool.files.rows import Row
from elimtool.run.roles import with_role

ROLES = {"eliminator": 1, "promoter": -1}
"""Culprits that verdicts name, and the sign of the expected change of log-probability without them."""

NULL_COMPONENTS = 20
"""Random components that a culprit is compared with."""

QUANTILE = 0.95
"""Quantile of the controls that the culprit's effect must exceed."""

DELTA = {"float64": 0.1, "float32": 0.1}
"""Smallest change of log-probability (nats) that counts, about a tenth of the probability ..."""

DELTA_HALF = 0.6
"""... and in half precision, where rounding alone moves log-probabilities by a few tenths of a nat."""

_FIELDS = ("effect", "effect_resample", "null", "null_n", "confirmed")

UNTESTED: dict[str, Any] = {f"{role}_{name}": None for role in ROLES for name in _FIELDS}
"""Columns of ``verdicts`` where nothing was tested."""


def null_quantile(values: Sequence[float]) -> float:
    """Compute the 95th percentile of the absolute effects of controls, linear between order statistics."""
    return float(np.quantile(np.abs(np.asarray(values, dtype=np.float64)), QUANTILE))


@dataclass(frozen=True, slots=True)
class CausalTest:
    """What ablating a culprit did to a target's log-probability, in nats.

    Attributes:
        effect: Change under mean ablation.
        resampled: Change under resample ablation.
        others: Changes under mean ablation of each control.
    """

    effect: float
    resampled: float
    others: tuple[float, ...]

    def null(self, sign: int) -> float | None:
        """Find the change that 95 % of the controls stay within, towards ``sign``; ``None`` with too few.

        Linear between order statistics, as in NumPy's default.
        """
        if len(self.others) < NULL_COMPONENTS:
            return None
        ordered = sorted(sign * other for other in self.others)
        place = QUANTILE * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return sign * (ordered[low] + (place - low) * (ordered[high] - ordered[low]))

    def confirms(self, sign: int, delta: float) -> bool:
        """Return whether the culprit does what the verdict says, by more than ``delta`` and its controls."""
        null = self.null(sign)
        if null is None:
            return False
        enough = sign * self.effect > delta and sign * self.resampled > 0
        return enough and sign * self.effect > sign * null

    def columns(self, role: str, delta: float) -> dict[str, Any]:
        """Fill the role's columns of ``verdicts``."""
        sign = ROLES[role]
        return {
            f"{role}_effect": self.effect,
            f"{role}_effect_resample": self.resampled,
            f"{role}_null": self.null(sign),
            f"{role}_null_n": len(self.others),
            f"{role}_confirmed": self.confirms(sign, delta),
        }


def decisive(outcome: str) -> str:
    """Name the role that a verdict's evidence rests on: what kept a survivor, or worked against any other."""
    return "promoter" if outcome == "survived" else "eliminator"


def evidence(verdict: Row) -> str:
    """Return ``confirmed`` if the causal test of the decisive culprit agreed, else ``observed``."""
    return "confirmed" if verdict[f"{decisive(verdict['outcome'])}_confirmed"] else "observed"


def findings_in_words(verdict: Row) -> Sequence[str]:
    """Write a sentence for each culprit that was tested, the decisive one first."""
    first = decisive(verdict["outcome"])
    return [
        _sentence(verdict, role)
        for role in sorted(ROLES, key=lambda role: role != first)
        if verdict.get(f"{role}_effect") is not None
    ]


def _sentence(verdict: Row, role: str) -> str:
    name, controls = verdict[role], verdict[f"{role}_null_n"]
    kind = "MLPs" if name.startswith("mlp") else "heads"
    head = "confirmed" if verdict[f"{role}_confirmed"] else "not confirmed"
    named = with_role(name, verdict.get(f"{role}_role"))
    said = f"ablating {named} changes its log-probability by {verdict[f'{role}_effect']:+.2f} nats"
    said += f" (resampled: {verdict[f'{role}_effect_resample']:+.2f})"
    null = verdict[f"{role}_null"]
    if null is None:
        return f"{head}: {said}, but the model has only {controls} other {kind} to compare with"
    side = "at most" if role == "eliminator" else "no less than"
    return f"{head}: {said}; 95% of {controls} other {kind} change it by {side} {null:+.2f}"
