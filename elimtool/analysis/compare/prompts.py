"""Note what readers of a comparison of prompts must know besides its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elimtool.files.rows import Rows
from elimtool.numerics.exchangeable import LEAST


def prompt_notes(pairs: Any, options: Mapping[str, Any]) -> list[str]:
    """Note what could not be compared or must not be trusted, a sentence each.

    Args:
        pairs: The Arrow table ``pairs``.
        options: All options of the comparison.
    """
    rows = pairs.to_pylist()
    asked = [row for row in rows if row["control"] is None]
    return [*_causality(rows, options), *_failed(asked), *_controls(asked, options), *_lens(options)]


def _causality(rows: Rows, options: Mapping[str, Any]) -> list[str]:
    broken = [row for row in rows if row["prefix_holds"] is False]
    if not broken:
        return []
    worst = max(broken, key=lambda row: float(row["prefix_difference"]))
    size, rounding = f"{worst['prefix_difference']:.2g}", f"{options['causal_within']:g}"
    return [
        f"CAUSALITY IS BROKEN: over the {worst['n_common_prefix']:,} tokens that the prompts of"
        f" '{worst['pair_id']}' begin with, the residual streams differ by up to {size} of their length"
        f" (rounding: {rounding}). What stands later in a prompt changes what the model makes of what stands"
        " earlier: no layer is where they part."
    ]


def _failed(asked: Rows) -> list[str]:
    if failed := sum(row["status"] != "ok" for row in asked):
        return [f"{failed:,} of {len(asked):,} pairs could not be compared: table pairs says why."]
    return []


def _controls(asked: Rows, options: Mapping[str, Any]) -> list[str]:
    """Note pairs of different prompts that have no band."""
    few = [
        row
        for row in asked
        if row["status"] == "ok" and row["text_a"] != row["text_b"] and row["n_controls"] < LEAST
    ]
    if not few or not options["controls"]:
        return []
    least = min(row["n_controls"] for row in few)
    return [
        f"{len(few):,} of {len(asked):,} pairs have fewer than {LEAST} controls (the fewest: {least}), since"
        " so few were asked for, or the edit leaves no more places or words to draw them from: there is no"
        " band, and no onset layer."
    ]


def _lens(options: Mapping[str, Any]) -> list[str]:
    if options["lens"] != "raw":
        return []
    return [
        "Layers are read raw: js and jaccard before the last layers compare distributions that mislead;"
        " cosine_distance and relative_l2 do not depend on the lens."
    ]
