"""Choose the passages that show where each head attends."""

from __future__ import annotations

import numpy as np

from elimtool.analysis.map.sums import TEXT, Sums
from elimtool.files.rows import Row, Rows

SHOWN = 3
"""Passages of each head."""


def examples(sums: Sums) -> dict[str, Rows]:
    """Make the rows of ``head_examples``: of each head the passages in which it attends most to one key."""
    query, keys, weights = (sums.each("examples", name, TEXT) for name in ("query", "keys", "weights"))
    passages = sums.of(TEXT)
    order = np.argsort(-weights[..., 0], axis=0, kind="stable")[:SHOWN]
    rows: Rows = []
    for layer, head in np.ndindex(sums.n_layers, sums.n_heads):
        for number, unit in enumerate(order[:, layer, head]):
            at = unit, layer, head
            passage, own = passages[unit], int(query[at])
            for key, weight in zip(keys[at].astype(int), weights[at], strict=True):
                if weight > 0:
                    row: Row = {"layer": layer, "head": head, "example": number + 1}
                    row |= {"passage": passage["prompt_id"], "query": own, "key": int(key)}
                    row |= {"query_token": passage["tokens"][own], "key_token": passage["tokens"][key]}
                    rows.append(row | {"weight": float(weight), "before": _before(passage["tokens"], own)})
    return {"head_examples": rows}


CONTEXT = 8
"""Tokens before a query that are shown with it."""


def _before(tokens: list[str], query: int) -> str:
    return "".join(tokens[max(0, query - CONTEXT) : query])
