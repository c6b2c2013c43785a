"""Lens trajectories: rank and probability of followed tokens, and the shape of the distribution, by layer.

Tables ``lens`` (one row a followed token) and ``lens_layers`` (one row a layer). Layer -1 is the
embedding and the last layer is the model's own output, whatever the lens. Sources: logit lens,
nostalgebraist 2020; survivors as the nucleus, Holtzman et al. 2020 (arXiv 1904.09751).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from elimtool.metrics.columns import Columns, join, names_at
from elimtool.metrics.metric import ReadoutView, Settings
from elimtool.model.view import Batch, LayerView
from elimtool.numerics import count_true, entropy_and_collision, kl_to_last, nucleus, rank

SURVIVORS = 0.9
"""Share of the probability that the survivor set (nucleus) of a layer holds."""


class LensTrajectory:
    """Reduces every layer's distribution at the probed rows."""

    needs: ClassVar[frozenset[str]] = frozenset({"residual"})
    tables: ClassVar[tuple[str, ...]] = ("lens", "lens_layers")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        del settings
        self.batch = batch
        self.targets: list[dict[str, Any]] = []
        self.layers: list[dict[str, Any]] = []

    def observe(self, view: LayerView) -> None:
        """The engine keeps the probed residuals; nothing to reduce before they are read out."""

    def read(self, view: ReadoutView) -> None:
        """Reduce [layers, rows, vocab] to numbers."""
        n_layers, n_rows, vocab = view.logits.shape
        logits, logprobs = view.logits.reshape(-1, vocab), view.logprobs.reshape(-1, vocab)
        self.targets.append(self._followed(view, logits, logprobs))
        self.layers.append(self._shapes(view, logprobs.reshape(n_layers, n_rows, vocab)))

    def _place(self, view: ReadoutView, row: Any, layer: Any) -> dict[str, Any]:
        prompt, probe = (index.cpu().numpy() for index in view.rows)
        ids = np.array([one.prompt_id for one in self.batch.encoded], dtype=object)
        positions = self.batch.positions.cpu().numpy()
        return {
            "prompt_id": ids[prompt[row]],
            "position": positions[prompt[row], probe[row]],
            "layer": layer - 1,
            "lens": np.full(len(row), view.lens, dtype=object),
        }

    def _followed(self, view: ReadoutView, logits: Tensor, logprobs: Tensor) -> dict[str, Any]:
        n_layers, n_rows, _ = view.logits.shape
        ids = view.followed.ids
        each = ids.clamp(min=0).repeat(n_layers, 1)
        ranks, ties = rank(logits, each)
        chosen = logprobs.gather(-1, each)
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
            "logprob": at(chosen),
            "prob": at(chosen.double().exp()),
            "logit": at(logits.gather(-1, each)),
        }

    def _shapes(self, view: ReadoutView, logprobs: Float[Tensor, "layers rows vocab"]) -> dict[str, Any]:
        n_layers, n_rows, vocab = logprobs.shape
        flat = logprobs.reshape(-1, vocab)
        inside = nucleus(flat, SURVIVORS).view(logprobs.shape)
        entropy, collision = entropy_and_collision(flat)
        sizes, jaccard, mass = _survivors(logprobs, inside)
        row, layer = np.divmod(np.arange(n_rows * n_layers), n_layers)

        def at(values: Tensor) -> Any:
            return values.reshape(n_layers, n_rows).cpu().numpy()[layer, row]

        top = at(view.top)
        return {
            **self._place(view, row, layer),
            "top_token": np.array([view.spell(int(token)) for token in top], dtype=object),
            "top_token_id": top,
            "top_prob": at(flat.gather(-1, view.top.reshape(-1, 1))[:, 0].double().exp()),
            "entropy": at(entropy),
            "collision": at(collision),
            "nucleus_size": at(sizes),
            "kl_to_final": at(kl_to_last(logprobs)),
            "survivor_jaccard": at(jaccard),
            "survivor_mass": at(mass),
        }

    def finish(self) -> dict[str, Columns]:
        """Columns of the two tables."""
        return {"lens": join(self.targets), "lens_layers": join(self.layers)}


def _survivors(
    logprobs: Float[Tensor, "layers rows vocab"], inside: Bool[Tensor, "layers rows vocab"]
) -> tuple[Int[Tensor, "layers rows"], Float[Tensor, "layers rows"], Float[Tensor, "layers rows"]]:
    """How large each layer's survivor set is, and how much of the output's it already has.

    Returns:
        ``(size, jaccard, mass)``: |N_l|; |N_l and N_L| / |N_l or N_L|, 0 .. 1; and the probability that
        layer l gives the tokens of N_L, 0 .. 1.
    """
    sizes, common = count_true(inside), torch.empty(inside.shape[:2], dtype=torch.long)
    mass = torch.empty(inside.shape[:2], dtype=torch.float64)
    for row, last in enumerate(inside[-1]):
        ids = last.nonzero()[:, 0]
        common[:, row] = count_true(inside[:, row, ids])
        mass[:, row] = logprobs[:, row, ids].double().exp().sum(-1)
    union = sizes + sizes[-1] - common
    return sizes, common.double() / union, mass
