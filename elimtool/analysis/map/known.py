"""Say which role each head of a model has, and what else is known of it, where a map is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.run.manifest import Manifest
from elimtool.run.reader import Run, as_run
from elimtool.run.roles import HeadProfile, read_profile

LAST = ("dormant", "sink")
"""Roles that most heads have: any other one is named before them."""
KEPT = 0.05
"""Largest q of a category that a head keeps beyond distance."""
DIGITS = 3
"""Decimals of scores that ``run.json`` keeps."""


@dataclass(frozen=True)
class HeadRoles:
    """The role of each head of one model.

    Attributes:
        model: The model that was mapped, as it was named.
        weights_sha256: Of its weights; ``None`` in maps of earlier versions, which are refused.
        map: Fingerprint of the map's run.
        heads: (head, role) such as ``("29.0", "suppressing")``, heads without a role left out, and sinks.
        profiles: What the map found of each head.
    """

    model: str
    weights_sha256: str | None
    map: str
    heads: tuple[tuple[str, str], ...]
    profiles: tuple[HeadProfile, ...] = ()

    def stated(self) -> dict[str, Any]:
        """Return what ``run.json`` keeps of them, which ``Run.roles`` and ``Run.head_profiles`` read."""
        told: dict[str, Any] = {"map": self.map, "heads": dict(self.heads)}
        profiles = {one.head: one.stated() for one in self.profiles}
        return told | ({"profiles": profiles} if profiles else {})

    def check(self, weights_sha256: str | None, model: str) -> None:
        """Refuse another model.

        Raises:
            ElimError: Its weights are not those that were mapped.
        """
        if weights_sha256 is None or weights_sha256 != self.weights_sha256:
            raise ElimError(
                f"`roles` are of another model: the map is of {self.model}, this is {model}",
                f"map it with: elimtool map {model} -o DIR",
            )


def head_roles(run: Run | str | Path) -> HeadRoles:
    """Read the role of each head from a map.

    Args:
        run: A map or its directory.

    Raises:
        ElimError: It cannot be read, is not a map, or was made without the roles of heads.
    """
    run = as_run(run)
    rows = run.analysis("map").arrow("head_roles").to_pylist() if run.is_map else []
    if not rows:
        what = "has no roles of heads" if run.is_map else "is not a map"
        raise ElimError(f"{run.path} {what}", "make one with: elimtool map MODEL -o DIR")
    facts = run.manifest
    telling = [row for row in rows if row["role"] != "sink"]  # which nearly every head is
    named = ((head, strongest(some)) for head, some in by_head(telling).items())
    heads = tuple((f"{layer}.{head}", one["role"]) for (layer, head), one in named if one is not None)
    categories = by_head(run.analysis("map").arrow("head_categories").to_pylist())
    profiles = tuple(
        _profile(f"{layer}.{head}", some, categories.get((layer, head), []))
        for (layer, head), some in by_head(rows).items()
    )
    return HeadRoles(facts.model, facts.weights_sha256, facts.fingerprint, heads, profiles)


def _profile(head: str, roles: Rows, categories: Rows) -> HeadProfile:
    kept = best_kept(categories)
    return HeadProfile(
        head,
        tuple((row["role"], None if row["score"] is None else round(row["score"], DIGITS)) for row in roles),
        tuple(row["role"] for row in roles if row["present"]),
        None if kept is None else kept["category"],
        None if kept is None else round(kept["selectivity"], DIGITS),
    )


def keeps(row: Row) -> bool:
    """Tell whether a head keeps a category beyond distance, corrected over all heads."""
    return row.get("q") is not None and row["q"] <= KEPT


def best_kept(rows: Rows) -> Row | None:
    """Choose of a head's rows of ``head_categories`` the most selective that it keeps, overlays left out."""
    kept = [row for row in rows if keeps(row) and not row["overlay"]]
    return max(kept, key=lambda row: float(row["selectivity"]), default=None)


def stated_roles(manifest: Manifest) -> HeadRoles | None:
    """Read the roles that a run was given from its manifest; ``None`` if it was given none."""
    config = manifest.config
    given: Any = config.get("roles") if isinstance(config, dict) else None
    if not given:
        return None
    profiles = tuple(read_profile(head, one) for head, one in (given.get("profiles") or {}).items())
    heads = tuple(given["heads"].items())
    return HeadRoles(manifest.model, manifest.weights_sha256, given["map"], heads, profiles)


def by_head(rows: Rows) -> Mapping[tuple[int, int], Rows]:
    """Group rows of ``head_roles`` by layer and head."""
    found: dict[tuple[int, int], Rows] = {}
    for row in rows:
        found.setdefault((row["layer"], row["head"]), []).append(row)
    return found


def strongest(rows: Rows) -> Row | None:
    """Choose the present role that stands farthest over its null; sinks and dormant heads come last."""
    present = [row for row in rows if row["present"]]
    return max(present, key=_strength, default=None)


def _strength(row: Row) -> tuple[bool, float]:
    return row["role"] not in LAST, row["score"] - (row["null"] or 0.0)
