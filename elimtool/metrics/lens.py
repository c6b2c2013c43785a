"""Lens trajectories: rank and probability of followed tokens, and the shape of the distribution, by layer.

Tables ``lens`` (one row a followed token) and ``lens_layers`` (one row a layer). Layer -1 is the
embedding and the last layer is the model's own output, whatever the lens. Sources: logit lens,
nostalgebraist 2020; survivors as the nucleus, Holtzman et al. 2020 (arXiv 1904.09751).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from elimtool.metrics.columns import Categorical, Columns, join, names_at, place, spelled
from elimtool.metrics.metric import Metric, ReadoutView, Settings
from elimtool.model.view import Batch
from elimtool.numerics.ranking import rank


class LensTrajectory(Metric):
    """Reduces every layer's distribution at the probed rows."""

    tables: ClassVar[tuple[str, ...]] = ("lens", "lens_layers")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.targets: list[Columns] = []
        self.layers: list[Columns] = []

    def read(self, view: ReadoutView) -> None:
        """Reduce [layers, rows, vocab] to numbers."""
        self.targets.append(self._followed(view))
        self.layers.append(self._shapes(view))

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
        real = (ids >= 0).cpu().numpy()[:, None, :].repeat(n_layers, axis=1)
        row, layer, k = real.nonzero()

        def at(values: Tensor) -> Any:
            return values.reshape(n_layers, n_rows, -1).cpu().numpy()[layer, row, k]

        return {
            **self._place(view, row, layer),
            "target": names_at(view.followed.texts, row, k),
            "token_id": ids.cpu().numpy()[row, k],
            "is_foil": view.followed.is_foil.cpu().numpy()[row, k],
            "rank": at(ranks),
            "rank_ties": at(ties),
            "logprob": at(logprobs),
            "prob": at(logprobs.exp()),
            "logit": at(chosen),
        }

    def _shapes(self, view: ReadoutView) -> dict[str, Any]:
        n_layers, n_rows, _ = view.logits.shape
        shapes = view.shapes
        best = view.logits.gather(-1, shapes.top[..., None])[..., 0].double() - shapes.normaliser
        row, layer = np.divmod(np.arange(n_rows * n_layers), n_layers)

        def at(values: Tensor) -> Any:
            return values.reshape(n_layers, n_rows).cpu().numpy()[layer, row]

        top = at(shapes.top)
        return {
            **self._place(view, row, layer),
            "top_token": spelled(top, view.spell),
            "top_token_id": top,
            "top_prob": at(best.exp()),
            "entropy": at(shapes.entropy),
            "collision": at(shapes.collision),
            "nucleus_size": at(shapes.size),
            "kl_to_final": at(shapes.kl),
            "survivor_jaccard": at(shapes.jaccard),
            "survivor_mass": at(shapes.mass),
        }

    def finish(self) -> dict[str, Columns]:
        """Columns of the two tables."""
        return {"lens": join(self.targets), "lens_layers": join(self.layers)}
