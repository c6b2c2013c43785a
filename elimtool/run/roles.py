"""Name heads with the role that a map of their model found, and tell what else it found of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elimtool.files.rows import Row

SPELLED = {
    "previous": "previous token",
    "duplicate": "duplicate token",
    "suppressing": "copy suppression",
}
"""Roles that are not called in the field what tables call them."""


def with_role(name: str, role: str | None) -> str:
    """Add a role to a head's name: ``head 29.0 (copy suppression)``; the name alone without one."""
    return name if role is None else f"{name} ({spelled(role)})"


def role_of(name: str | None, roles: Mapping[str, str]) -> str | None:
    """Look up the role of a component such as ``head 29.0``; ``None`` for an MLP or where it has none."""
    return None if name is None else roles.get(name.removeprefix("head "))


def with_source_roles(row: Row, roles: Mapping[str, str]) -> Row:
    """Add the roles of the heads that wrote most for and against a target to a row of ``source_spans``."""
    heads = {which: f"{row[f'{which}_layer']}.{row[f'{which}_head']}" for which in ("top", "low")}
    return row | {f"{which}_role": roles.get(head) for which, head in heads.items()}


KEPT = {
    "name": "names", "function": "function words", "content": "content words", "word": "words",
    "number": "numbers", "punct": "punctuation", "piece": "pieces of words", "space": "white space",
    "repeated": "repeated tokens", "negation": "negations",
}  # fmt: skip
"""Categories of tokens -> what a sentence calls them; labels of a user's own stand as they are."""
PATTERNS = ("previous", "duplicate", "induction")
"""Roles that say where a head looks, of which a sentence gives the one with the largest score."""


@dataclass(frozen=True)
class HeadProfile:
    """What a map found of one head.

    Attributes:
        head: Layer and head, such as ``29.0``.
        scores: Role and its score (0 to 1), ``None`` where it was not measurable.
        present: Roles that the head has.
        keeps: The category that it keeps best, if it certainly does: the interval is over 1.
        times: Its selectivity: attention over what the same distances explain.
    """

    head: str
    scores: tuple[tuple[str, float | None], ...] = ()
    present: tuple[str, ...] = ()
    keeps: str | None = None
    times: float | None = None

    def stated(self) -> dict[str, Any]:
        """Return what ``run.json`` keeps of it, which ``read_profile`` reads."""
        keeps = {"keeps": self.keeps, "times": self.times}
        return {"scores": dict(self.scores), "present": list(self.present), **keeps}

    def told(self, asked: str) -> str:
        """Tell whether the head has a role that is asked for, where it looks, and what it keeps.

        Args:
            asked: The role: ``suppressing`` of a head that takes from a token, ``copying`` of one that gives.
        """
        scores = dict(self.scores)
        parts = [f"{spelled(asked)}? {self._answer(asked, scores)}"] if asked in scores else []
        parts += [
            f"{spelled(one)} {scores[one]:.2f}" for one in self.present if one not in (asked, *PATTERNS)
        ]
        looks = [one for one in PATTERNS if scores.get(one) is not None]
        if looks:
            most = max(looks, key=lambda one: scores[one] or 0.0)
            parts.append(f"{spelled(most)} {scores[most]:.2f}")
        if self.keeps is not None and self.times is not None:
            parts.append(f"keeps {KEPT.get(self.keeps, self.keeps)} {self.times:.2g} times")
        return "; ".join(parts)

    def _answer(self, asked: str, scores: Mapping[str, float | None]) -> str:
        score = scores[asked]
        if score is None:
            return "not measurable"
        return f"yes, {score:.2f}" if asked in self.present else "no"


def read_profile(head: str, stated: Any) -> HeadProfile:
    """Read a profile from what ``run.json`` keeps of it."""
    scores = stated.get("scores") or {}
    return HeadProfile(
        head,
        tuple(scores.items()),
        tuple(stated.get("present") or ()),
        stated.get("keeps"),
        stated.get("times"),
    )


def spelled(role: str) -> str:
    """Return what the field calls a role."""
    return SPELLED.get(role, role)
