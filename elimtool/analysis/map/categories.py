"""Make the tables of what heads keep: each category of tokens, beside what distance alone explains."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from elimtool.analysis.map.known import keeps
from elimtool.analysis.map.named import OVERLAYS
from elimtool.analysis.map.sums import TEXT, Array, Sums
from elimtool.analysis.map.units import FEWEST_ROWS, SHOWS_NONE, SINKS_ALONE, exceeds, ratio_interval
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
    reasons = {at: _unmeasured(sums, *at) for at in np.ndindex(sums.n_layers, sums.n_heads)}
    p, q = exceeding(found, expected, np.array([*map(bool, reasons.values())]).reshape(found.shape[1:3]))
    rows: Rows = []
    told: Rows = []
    for at, why in reasons.items():
        layer, head = at
        some: Rows = []
        for index, name in enumerate(names):
            row: Row = {"layer": layer, "head": head, "category": name, "overlay": name in OVERLAYS}
            numbers = {"retention": retention, "selectivity": selectivity, "low": low, "high": high}
            numbers |= {"p": p, "q": q}
            few = (
                None
                if known[index]
                else f"fewer than {FEWEST_TOKENS:,} tokens or {FEWEST_PASSAGES:,} passages"
            )
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


def exceeding(found: Array, expected: Array, unmeasured: Array) -> tuple[Array, Array]:
    """Test that heads give categories more attention than distance alone explains.

    Args:
        found: Attention on each category, [passages, layers, heads, categories].
        expected: What distance alone gives it, likewise.
        unmeasured: Whether a head has no numbers, [layers, heads]: it is not tested.

    Returns:
        p and, adjusted over all heads of the category, q, [layers, heads, categories].
    """
    each = [
        exceeds(*(np.where(unmeasured, np.nan, one[..., at]) for one in (found, expected)))
        for at in range(found.shape[-1])
    ]
    p, q = (np.stack(one, axis=-1) for one in zip(*each, strict=True))
    return p, q


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
    """Yield the heads that keep a category beyond distance, the most selective first."""
    kept = [row for row in rows if row["category"] == category and keeps(row)]
    yield from sorted(kept, key=lambda row: (-row["selectivity"], row["layer"], row["head"]))
