"""Make the tables of pairs of heads: how alike they are, and whose loss hides whose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from elimtool.analysis.map.sums import PAIR, REPEATS, TEXTS, Array, Sums
from elimtool.analysis.map.units import FEWEST_ROWS, interval
from elimtool.analysis.statistics.base import LEVEL
from elimtool.files.parse import parse_json
from elimtool.files.rows import Row, Rows

VARIES = 1e-6
"""Share of its squared mean length from which what a head writes is said to vary."""
FEWEST_TOGETHER = 256
"""Tokens of a unit of several passages from which what heads write is compared."""
NAMES = (
    "js",
    "js.rows",
    "js.null",
    "null.rows",
    "hsic",
    "hsic.null",
    "affinity",
    "affinity.null",
    "size",
    "rows",
)


def redundancy(sums: Sums) -> dict[str, Rows]:
    """Make the rows of ``head_pairs`` and ``head_interactions``."""
    return {"head_pairs": list(_pairs(sums)), "head_interactions": list(_interactions(sums))}


def _pairs(sums: Sums) -> Iterator[Row]:
    if not sums.of(TEXTS):
        return
    found = {name: sums.each("redundancy", name, TEXTS) for name in NAMES}
    js, js_null = (
        _over(found[name], found[rows]) for name, rows in (("js", "js.rows"), ("js.null", "null.rows"))
    )
    cka, cka_null = (alignment(found[name], found["hsic"], found["size"], found["rows"]) for name in HSIC)
    space, chance = (found[name][0] for name in ("affinity", "affinity.null"))
    for layer in range(sums.n_layers):
        for a in range(sums.n_heads):
            for b in range(a + 1, sums.n_heads):
                at = layer, a, b
                known = space[layer, a, a] > 0 and space[layer, b, b] > 0
                yield _places(sums, (layer, a), (layer, b)) | {
                    "js": _number(js[at]),
                    "js_null": _number(js_null[at]),
                    "cka": _number(cka[at]),
                    "cka_null": _number(cka_null[at]),
                    "affinity": float(min(1.0, space[at])) if known else None,
                    "affinity_null": float(chance[at]) if known else None,
                    "n_queries": int(found["js.rows"][:, layer, a, b].sum()),
                }


HSIC = ("hsic", "hsic.null")


def _over(total: Array, rows: Array) -> Array:
    count = rows.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count >= FEWEST_ROWS, total.sum(0) / count, np.nan)


def alignment(found: Array, own: Array, size: Array, rows: Array) -> Array:
    """Divide the dependence of what heads write by their own: centred kernel alignment.

    Args:
        found: Unbiased HSIC of pairs, [units, layers, heads, heads], whose mean over units is one of all.
        own: Likewise; its diagonal is each head's own.
        size: Mean squared length of what each head writes, [units, layers, heads].
        rows: Tokens, [units, layers].

    Returns:
        [layers, heads, heads], NaN where a head hardly varies or there are too few tokens.
    """
    each = np.diagonal(own, axis1=-2, axis2=-1).mean(0)
    enough = (each > VARIES * size.mean(0) ** 2) & (rows.min(0) >= FEWEST_TOGETHER)[:, None]
    scale = np.sqrt(np.where(enough, each, np.nan))
    found = found.mean(0) / (scale[:, :, None] * scale[:, None, :])
    return np.minimum((found + found.transpose(0, 2, 1)) / 2, 1.0)


def _interactions(sums: Sums) -> Iterator[Row]:
    for unit in sums.of(PAIR):
        heads, effects, null = (
            sums.one("redundancy", name, unit["prompt_id"]) for name in ("heads", "effects", "null")
        )
        if heads[0] < 0:
            continue
        roles = parse_json(unit["meta"])["roles"]
        layer_a, head_a, layer_b, head_b = map(int, heads)
        middle, low, high = interval(effects[2] - effects[0] - effects[1])
        ends = np.quantile(null, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(null) else (np.nan, np.nan)
        yield _places(sums, (layer_a, head_a), (layer_b, head_b)) | {
            "role_a": roles[0],
            "role_b": roles[1],
            **dict(zip(("effect_a", "effect_b", "effect_both"), map(float, effects.mean(1)), strict=True)),
            "interaction": float(middle),
            "low": _number(float(low)),
            "high": _number(float(high)),
            "null_low": _number(ends[0]),
            "null_high": _number(ends[1]),
            "n_null": len(null),
            "n_sequences": effects.shape[1],
            "probe": REPEATS,
        }


def _places(sums: Sums, one: tuple[int, int], other: tuple[int, int]) -> Row:
    same = one[0] == other[0] and sums.group_of(one[1]) == sums.group_of(other[1])
    return {
        "layer_a": one[0], "head_a": one[1], "layer_b": other[0], "head_b": other[1], "same_group": same
    }  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
