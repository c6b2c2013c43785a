"""Sum up what sets a target apart from a foil: by how much, from which layer on, by which component."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from elimtool.files.rows import Row, Rows

if TYPE_CHECKING:
    from elimtool.run import Run

PAIR = ("prompt_id", "position", "target", "foil")
Pair = tuple[str, int, str, str]
"""Prompt id, position, target, foil."""

_KEPT = ("target_token", "token_id", "foil_token", "foil_token_id", "lens", "difference", "n_controls")


def contrasts(run: Run) -> Rows:
    """Make the rows of the table ``contrasts`` for every target and foil of a run.

    Args:
        run: A run with the table ``contrast_layers``; ``contrast_components`` and ``contrast_stages`` are
            used if it has them.
    """
    parts, stages = (_by_pair(run, name) for name in ("contrast_components", "contrast_stages"))
    found = []
    for pair, layers in _by_pair(run, "contrast_layers").items():
        settled = decision(layers)
        separating = [row for row in stages.get(pair, ()) if row["stage"] is not None]
        found.append(
            {
                **dict(zip(PAIR, pair, strict=True)),
                **{name: layers[-1][name] for name in _KEPT},
                "decision_layer": settled["layer"] if settled else None,
                "sign_changes": changes(layers),
                "n_controls_settled": settled["n_controls_settled"] if settled else None,
                **_extreme("promoter", 1, parts.get(pair, ())),
                **_extreme("eliminator", -1, parts.get(pair, ())),
                "n_chains": len(stages.get(pair, ())),
                "n_separating": len(separating),
                "intervention": None,
            }
        )
    return found


def decision(layers: Rows) -> Row | None:
    """Find the first block from which the difference keeps its final sign; ``None`` where it ends level.

    Args:
        layers: Rows of ``contrast_layers`` of one pair in order of layers, the embedding first or left out.
    """
    final = sign(layers[-1]["difference"])
    settled = None
    for row in reversed(layers):
        if not final or row["layer"] < 0 or sign(row["difference"]) != final:
            break
        settled = row
    return settled


def changes(layers: Rows) -> int:
    """Count how often the difference changes its sign from one block to the next."""
    signs = [sign(row["difference"]) for row in layers if row["layer"] >= 0]
    return sum(one != other for one, other in pairwise(signs))


def sign(difference: float | None) -> int:
    """Return 1 for the target, -1 for the foil, 0 where neither is ahead or the difference is unknown."""
    return 0 if difference is None else (difference > 0) - (difference < 0)


def _extreme(role: str, direction: int, parts: Rows | tuple[()]) -> dict[str, Any]:
    """Name the head or MLP that does most in one direction."""
    some = [row for row in parts if row["kind"] in ("head", "mlp")]
    best = max(some, key=lambda row: direction * row["dla_difference"], default=None)
    if best is None or direction * best["dla_difference"] <= 0:
        return {role: None, f"{role}_dla": None}
    return {role: best["component"], f"{role}_dla": best["dla_difference"]}


def _by_pair(run: Run, name: str) -> dict[Pair, Rows]:
    """Group the rows of a table; none if there is no such table."""
    found: dict[Pair, Rows] = {}
    for row in run.arrow(name).to_pylist() if name in run.tables else ():
        found.setdefault((row["prompt_id"], row["position"], row["target"], row["foil"]), []).append(row)
    return found
