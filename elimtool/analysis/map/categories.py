"""Make the tables of what heads keep: each category of tokens, beside what distance alone explains."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from elimtool.analysis.map.named import OVERLAYS
from elimtool.analysis.map.sums import TEXT, Array, Sums
from elimtool.analysis.map.units import FEWEST_ROWS, SHOWS_NONE, SINKS_ALONE, ratio_interval
from elimtool.files.rows import Row, Rows

FEWEST_TOKENS, FEWEST_PASSAGES = 20, 3


def categories(sums: Sums) -> dict[str, Rows]:
    """Make the rows of ``head_categories`` and ``head_selectivity``."""
    names = (*sums.categories, *OVERLAYS)
    found, even, expected = (sums.each("categories", name, TEXT) for name in ("found", "uniform", "expected"))
    selectivity, low, high = ratio_interval(found, expected)
    retention = ratio_interval(found, even).mean
    tokens = sums.each("categories", "tokens", TEXT)
    known = enough(tokens)
    rows: Rows = []
    told: Rows = []
    for layer, head in np.ndindex(sums.n_layers, sums.n_heads):
        at = layer, head
        why = _unmeasured(sums, layer, head)
        some: Rows = []
        for index, name in enumerate(names):
            row: Row = {"layer": layer, "head": head, "category": name, "overlay": name in OVERLAYS}
            numbers = {"retention": retention, "selectivity": selectivity, "low": low, "high": high}
            few = None if known[index] else f"fewer than {FEWEST_TOKENS} tokens or {FEWEST_PASSAGES} passages"
            row |= {key: _number(one[at][index], why or few) for key, one in numbers.items()}
            row |= {"n_tokens": int(tokens[:, index].sum()), "n_passages": int((tokens[:, index] > 0).sum())}
            some.append(row | {"unmeasured": why or few})
        rows += some
        told.append({"layer": layer, "head": head} | _summed_up(some) | {"unmeasured": why})
    return {"head_categories": rows, "head_selectivity": told}


def enough(tokens: Array) -> Array:
    """Tell which categories have enough tokens and passages to have numbers.

    Args:
        tokens: How many each passage has, [passages, categories].
    """
    found: Array = (tokens.sum(0) >= FEWEST_TOKENS) & ((tokens > 0).sum(0) >= FEWEST_PASSAGES)
    return found


def _unmeasured(sums: Sums, layer: int, head: int) -> str | None:
    """Say why a head has no number; ``None`` if it has."""
    if not sums.each("categories", "read", TEXT)[:, layer].any():
        return SHOWS_NONE
    few = sums.each("categories", "rows", TEXT)[:, layer, head].sum() < FEWEST_ROWS
    return SINKS_ALONE if few else None


def _number(value: float, why: str | None) -> float | None:
    return None if why or np.isnan(value) else float(value)


def _summed_up(rows: Rows) -> Row:
    """Tell how unequal the categories are to a head, and which it keeps best and worst."""
    known = [row for row in rows if row["selectivity"] is not None and not row["overlay"]]
    if len(known) < 2:
        return dict.fromkeys(("selectivity_index", "kept", "dropped"))
    values = np.array([row["selectivity"] for row in known])
    order = np.argsort(values, kind="stable")
    return {
        "selectivity_index": index_of(values),
        "kept": known[order[-1]]["category"],
        "dropped": known[order[0]]["category"],
    }


def index_of(selectivities: Array) -> float | None:
    """Return 1 - entropy of the shares over its largest value: 0 if all are alike, 1 if one has all."""
    total = selectivities.sum()
    if total <= 0:
        return None
    shares = selectivities[selectivities > 0] / total
    return float(max(0.0, 1 + (shares * np.log(shares)).sum() / np.log(len(selectivities))))


def ranked(rows: Rows, category: str) -> Iterator[Row]:
    """Yield the rows of a category whose interval is over 1, the most selective heads first."""
    known = [row for row in rows if row["category"] == category and row["low"] is not None and row["low"] > 1]
    yield from sorted(known, key=lambda row: (-row["selectivity"], row["layer"], row["head"]))
