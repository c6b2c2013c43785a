"""Lens trajectories: rank and probability of followed tokens, and statistics of the distribution, by layer.

Tables ``lens`` (one row per followed token) and ``lens_layers`` (one row per layer). Layer -1 is the
embedding, and the last layer is the model's own output whatever the lens. Sources: logit lens,
nostalgebraist 2020; survivors as the nucleus, Holtzman et al. 2020 (arXiv 1904.09751).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, null_where, place, spelled
from elimtool.metrics.metric import Here, Metric, ReadoutView, RowFacts
from elimtool.numerics.ranking import rank


class LensTrajectory(Metric):
    """Reduces every layer's distribution at the probed rows."""

    tables: ClassVar[tuple[str, ...]] = ("lens", "lens_layers")

    def read(self, view: ReadoutView) -> None:
        """Reduce the distributions of some rows at every layer to numbers."""
        facts = view.facts
        self.bring(_followed(view), lambda here: {"lens": self._of_tokens(facts, here)})
        self.bring(_shapes(view), lambda here: {"lens_layers": self._of_layers(facts, here)})

    def _place(self, facts: RowFacts, row: Any, layer: Any) -> dict[str, Any]:
        return {
            **place(self.batch, facts.rows, row),
            "layer": layer - 1,
            "lens": Categorical([facts.lens], np.zeros(len(row), dtype=np.int32)),
        }

    def _of_tokens(self, facts: RowFacts, numbers: Here) -> Columns:
        followed = facts.followed.here
        n_layers = len(numbers["rank"]) // len(followed["ids"])
        real = (followed["ids"] >= 0)[:, None, :].repeat(n_layers, axis=1)
        row, layer, k = real.nonzero()  # in the order of the table's rows
        found = {
            name: values.reshape(n_layers, *followed["ids"].shape)[layer, row, k]
            for name, values in numbers.items()
        }
        cosine = found.pop("cosine", np.full(len(row), np.nan))
        nearer = found.pop("cosine_rank", np.ones(len(row), dtype=np.int64))
        return {
            **self._place(facts, row, layer),
            **facts.followed.names(row, k),
            "token_id": followed["ids"][row, k],
            "is_foil": followed["is_foil"][row, k],
            **found,
            "cosine": cosine,
            "cosine_rank": null_where(nearer, np.isnan(cosine)),
        }

    def _of_layers(self, facts: RowFacts, numbers: Here) -> Columns:
        n_rows = len(facts.rows.here[0])
        n_layers = numbers["entropy"].size // n_rows
        row, layer = np.divmod(np.arange(n_rows * n_layers), n_layers)
        cells = {name: values.reshape(n_layers, n_rows)[layer, row] for name, values in numbers.items()}
        top = spelled(cells["top_token_id"], facts.spell)
        return {**self._place(facts, row, layer), "top_token": top, **cells}


def _followed(view: ReadoutView) -> dict[str, Tensor]:
    """Return numbers of followed tokens, [layers times rows, k]."""
    n_layers, _, vocab = view.logits.shape
    ids = view.followed.ids
    each = ids.clamp(min=0).repeat(n_layers, 1)
    logits = view.logits.reshape(-1, vocab)
    ranks, ties = rank(logits, each, view.shapes.leading, view.shapes.maxima)
    chosen = logits.gather(-1, each)
    logprobs = chosen.double() - view.shapes.normaliser.reshape(-1, 1)
    numbers = {
        "rank": ranks,
        "rank_ties": ties,
        "logprob": logprobs,
        "prob": logprobs.exp(),
        "logit": chosen,
    }
    if view.cosines is not None:
        cosines = view.cosines().reshape(-1, vocab)
        numbers["cosine"] = cosines.gather(-1, each).double()
        # a row of zeros is near nothing
        numbers["cosine_rank"] = rank(cosines.nan_to_num(nan=-2.0), each)[0]
    return numbers


def _shapes(view: ReadoutView) -> dict[str, Tensor]:
    """Return statistics of distributions, [layers, rows]."""
    shapes = view.shapes
    best = view.logits.gather(-1, shapes.top[..., None])[..., 0].double() - shapes.normaliser
    return {
        "top_token_id": shapes.top,
        "top_prob": best.exp(),
        "entropy": shapes.entropy,
        "collision": shapes.collision,
        "nucleus_size": shapes.size,
        "kl_to_final": shapes.kl,
        "survivor_jaccard": shapes.jaccard,
        "survivor_mass": shapes.mass,
    }
