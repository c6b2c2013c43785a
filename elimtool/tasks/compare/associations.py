"""Contrast what two prompts call below the output: tokens by what they part, concepts by sets as frequent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.analysis.statistics.base import LEVEL
from elimtool.files.rows import Row, Rows
from elimtool.metrics.associations import matched_sets
from elimtool.metrics.metric import Concept
from elimtool.numerics.exchangeable import LEAST, judged

if TYPE_CHECKING:
    from elimtool.engine.session import Session
    from elimtool.tasks.compare.pair import Seen

MOST = 20
"""Tokens of a layer: those with the largest terms."""


def association_rows(session: Session, seen: Seen) -> Rows:
    """Make the rows of ``association_contrast``; none where no concept is followed.

    Args:
        session: Concepts, lens and frequencies.
        seen: The pair.
    """
    concepts = session.settings.concepts
    if not concepts:
        return []
    a, b = (reading.logprobs.double() for reading in seen.readings)
    said = [token for one in (seen.a, seen.b) for token in one.token_ids[: one.positions[-1] + 1]]

    def spell(token: int) -> str:
        return session.model.tokenizer.texts([token])[0]

    reference = session.settings.reference
    found = [row for layer in range(len(a)) for row in _tokens(a[layer], b[layer], layer - 1)]
    texts = session.model.tokenizer.texts([row["token_id"] for row in found])
    for row, text in zip(found, texts, strict=True):
        row["token"] = text
    for one in concepts:
        sets = matched_sets(one, said, spell, None if reference is None else reference.prior)
        found += _concept(one, sets, a, b)
    about = {"pair_id": seen.pair_id, "lens": session.lens.name}
    return [about | row for row in sorted(found, key=lambda row: row["layer"])]


def _tokens(a: Float[Tensor, "vocab"], b: Float[Tensor, "vocab"], layer: int) -> Rows:
    """Make a layer's rows of tokens, largest terms first; none where nothing differs."""
    gap = b - a
    terms = (b.exp() - a.exp()) * gap
    whole = float(terms.sum())
    best = [one for one in terms.topk(min(MOST, len(terms))).indices.tolist() if float(terms[one]) > 0]
    return [
        {
            "layer": layer,
            "token_id": token,
            "prob_a": float(a[token].exp()),
            "prob_b": float(b[token].exp()),
            "difference": float(gap[token]),
            "term": float(terms[token]),
            "term_share": min(1.0, float(terms[token]) / whole),
        }
        for token in best
    ]


def _concept(
    concept: Concept,
    sets: Sequence[tuple[int, ...]],
    a: Float[Tensor, "layers vocab"],
    b: Float[Tensor, "layers vocab"],
) -> Rows:
    """Make the rows of a concept, one a layer."""
    layers = range(-1, len(a) - 1)
    about: Row = {"concept": concept.name, "n_tokens": len(sets[0]), "n_controls": len(sets) - 1}
    if not sets[0]:
        return [about | {"layer": layer} for layer in layers]
    ids = torch.tensor(sets, device=a.device)
    masses = [side[:, ids].logsumexp(-1).cpu().numpy() for side in (a, b)]  # each [layers, sets], ln
    apart = masses[1] - masses[0]
    found = judged(np.abs(apart).T[:, 1:])
    rows = []
    for index, layer in enumerate(layers):
        row = about | {"layer": layer, "difference": float(apart[index, 0])}
        row |= {
            f"prob_{side}": min(1.0, float(np.exp(mass[index, 0])))
            for side, mass in zip("ab", masses, strict=True)
        }
        if len(sets) > LEAST:
            row["difference_low"], row["difference_high"] = np.quantile(
                apart[index, 1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
            ).tolist()
        if found is not None and layer >= 0:
            row |= {"p_value": float(found.p[layer]), "p_adjusted": float(found.adjusted[layer])}
        rows.append(row)
    return rows
