"""Lens trajectories: rank and probability of followed tokens, and statistics of the distribution, by layer.

Tables ``lens`` (one row per followed token) and ``lens_layers`` (one row per layer). Layer -1 is the
embedding, and the last layer is the model's own output whatever the lens. Sources: logit lens,
nostalgebraist 2020; survivors as the nucleus, Holtzman et al. 2020 (arXiv 1904.09751).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from elimtool.metrics.columns import Categorical, null_where, place, spelled
from elimtool.metrics.metric import Metric, ReadoutView
from elimtool.numerics.ranking import rank
from elimtool.numerics.transfer import arrays


class LensTrajectory(Metric):
    """Reduces every layer's distribution at the probed rows."""

    tables: ClassVar[tuple[str, ...]] = ("lens", "lens_layers")

    def read(self, view: ReadoutView) -> None:
        """Reduce the distributions of some rows at every layer to numbers."""
        self.filled["lens"].append(self._followed(view))
        self.filled["lens_layers"].append(self._shapes(view))

    def _place(self, view: ReadoutView, row: Any, layer: Any) -> dict[str, Any]:
        return {
            **place(self.batch, view.rows, row),
            "layer": layer - 1,
            "lens": Categorical([view.lens], np.zeros(len(row), dtype=np.int32)),
        }

    def _followed(self, view: ReadoutView) -> dict[str, Any]:
        n_layers, n_rows, vocab = view.logits.shape
        ids = view.followed.ids
        each = ids.clamp(min=0).repeat(n_layers, 1)
        logits = view.logits.reshape(-1, vocab)
        ranks, ties = rank(logits, each, view.shapes.leading, view.shapes.maxima)
        chosen = logits.gather(-1, each)
        logprobs = chosen.double() - view.shapes.normaliser.reshape(-1, 1)
        here = view.followed.here
        real = (here["ids"] >= 0)[:, None, :].repeat(n_layers, axis=1)
        row, layer, k = real.nonzero()  # in the order of the table's rows
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
        found = {
            name: values.reshape(n_layers, n_rows, -1)[layer, row, k]
            for name, values in arrays(numbers).items()
        }
        cosine = found.pop("cosine", np.full(len(row), np.nan))
        nearer = found.pop("cosine_rank", np.ones(len(row), dtype=np.int64))
        return {
            **self._place(view, row, layer),
            **view.followed.names(row, k),
            "token_id": here["ids"][row, k],
            "is_foil": here["is_foil"][row, k],
            **found,
            "cosine": cosine,
            "cosine_rank": null_where(nearer, np.isnan(cosine)),
        }

    def _shapes(self, view: ReadoutView) -> dict[str, Any]:
        n_layers, n_rows, _ = view.logits.shape
        shapes = view.shapes
        best = view.logits.gather(-1, shapes.top[..., None])[..., 0].double() - shapes.normaliser
        row, layer = np.divmod(np.arange(n_rows * n_layers), n_layers)

        found = arrays(
            {
                "top_token_id": shapes.top,
                "top_prob": best.exp(),
                "entropy": shapes.entropy,
                "collision": shapes.collision,
                "nucleus_size": shapes.size,
                "kl_to_final": shapes.kl,
                "survivor_jaccard": shapes.jaccard,
                "survivor_mass": shapes.mass,
            }
        )
        cells = {name: values.reshape(n_layers, n_rows)[layer, row] for name, values in found.items()}
        top = spelled(cells["top_token_id"], view.spell)
        return {**self._place(view, row, layer), "top_token": top, **cells}
