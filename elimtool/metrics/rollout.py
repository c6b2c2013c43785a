"""Rollout: follow what attention mixes through all layers at once, with measured weights of the residual.

Table ``rollout``. In the step with attention of layer l, row i has a share from each token, and one from the
residual and the constants, which stays in the row (``elimtool.metrics.carried_vectors``). With these shares
as a matrix M_l, what the last layer's row p holds of the embedded tokens is row p of M_{L-1} ... M_0. MLPs
move nothing between positions; where they stand beside attention, their share stays in the row too.

Source: attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928) with contributions in place of weights
and of half a residual, as ALTI does it (Ferrando et al. 2022, arXiv 2203.04212). The null is the same product
with each row's share for tokens spread evenly over the tokens that it sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.metrics.carried_vectors import CarriedRows
from elimtool.metrics.columns import Categorical, Columns
from elimtool.metrics.metric import Here, Metric, Settings
from elimtool.model.carried import NOT_REBUILT, Carried
from elimtool.model.view import Batch, Encoded, LayerView

MOST_TOKENS = 256
"""Most tokens up to a probed position: the time for all rows of all layers grows with their square."""

PASSES = 15
"""About how many tokens make a rollout take as long as a forward pass more."""

ROWS = 32
"""Rows of which the parts are formed at a time."""

TABLE = "rollout"


class Rollout(Metric):
    """Multiplies the layers' matrices of shares; the batch must have all queries up to the probed ones."""

    needs: frozenset[str] = frozenset({"attention", "block", "values"})
    tables: ClassVar[tuple[str, ...]] = (TABLE,)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        shape, device = batch.positions.shape, batch.ids.device
        self.whole = torch.eye(shape[1], dtype=torch.float64, device=device).repeat(shape[0], 1, 1)
        self.even = self.whole.clone()
        self.lost = torch.zeros(shape, dtype=torch.bool, device=device)
        self.unrebuilt = self.lost.clone()
        self.why: str | None = None
        self.flaws: list[tuple[int, Callable[[], str | None] | None]] = []

    @torch.inference_mode()
    def observe(self, view: LayerView) -> None:
        """Form the layer's matrix of shares, some rows at a time, and multiply with it."""
        if view.layer < 0 or self.why is not None:
            return
        if view.carried is None or view.visible is None or view.block is None:
            self.why = f"layer {view.layer}: {view.no_weights or view.unread or NOT_REBUILT}"
            return
        self.flaws.append((view.layer, view.block.flaw))
        mixed, even = torch.zeros_like(self.whole), torch.zeros_like(self.whole)
        for some, weights in view.attention_parts():
            for start in range(some.start, some.stop, ROWS):
                rows = slice(start, min(start + ROWS, some.stop))
                # the tokens behind a row are none of its parts
                own = weights[:, :, start - some.start : rows.stop - some.start, : rows.stop]
                self._fill(view.carried, own, view.visible[:, rows], rows, mixed, even)
        self.whole, self.even = mixed @ self.whole, even @ self.even

    def _fill(
        self,
        carried: Carried,
        weights: Float[Tensor, "batch heads some few"],
        visible: Bool[Tensor, "batch some keys"],
        rows: slice,
        mixed: Float[Tensor, "batch queries queries"],
        even: Float[Tensor, "batch queries queries"],
    ) -> None:
        """Put some rows into the layer's two matrices; rows of which the parts are not known are lost."""
        everyone = (True,) * len(self.batch.encoded)
        parts = CarriedRows([carried], weights[None], self.batch.positions[:, rows], rows, everyone)
        step = parts.steps.get("attention") or parts.steps["block"]
        tokens, stays = parts.tokens.taken[0], torch.stack([one.taken[0] for one in step.values()]).sum(0)
        total = tokens.sum(-1) + stays
        known = parts.rebuilt[0] & (total > 0) & self.batch.probed[:, rows]
        self.lost[:, rows] |= ~known
        self.unrebuilt[:, rows] |= ~parts.rebuilt[0] & self.batch.probed[:, rows]
        share, kept = (tokens / total[..., None], stays / total)
        share = share.where(known[..., None], 0.0)  # what is lost must not reach other rows
        kept = kept.where(known, 1.0)
        place = torch.arange(rows.start, rows.stop, device=weights.device)
        mixed[:, rows, : rows.stop] = share
        mixed[:, place, place] += kept
        seen = visible[..., : even.shape[-1]].double()
        even[:, rows] = (1.0 - kept)[..., None] * seen / seen.sum(-1, keepdim=True)
        even[:, place, place] += kept

    def _unknown(self) -> str | None:
        """Say why nothing is known; ``None`` if something is."""
        if self.why is None:
            said = [(layer, None if flaw is None else flaw()) for layer, flaw in self.flaws]
            self.why = next((f"layer {layer}: {why}" for layer, why in said if why is not None), None)
        return self.why

    def end(self) -> None:
        """Bring the matrices."""
        # a row holds what all rows before it hold
        behind = {"lost": self.lost.cumsum(1) > 0, "unrebuilt": self.unrebuilt.cumsum(1) > 0}
        self.bring({"whole": self.whole, "even": self.even, **behind}, self._columns)

    def _columns(self, here: Here) -> dict[str, Columns]:
        why, encoded = self._unknown(), self.batch.encoded
        whole, even, lost, unrebuilt = (here[name] for name in ("whole", "even", "lost", "unrebuilt"))
        spans = [span for one in encoded for span in one.spans]
        at = [
            (index, position, place)
            for index, one in enumerate(encoded)
            for position in one.positions
            for place in range(len(one.spans))
        ]
        starts = np.cumsum([0, *(len(one.spans) for one in encoded)])
        prompt, position, place = np.array(at, dtype=np.int32).T
        span = starts[prompt] + place
        found = np.full((2, len(at)), np.nan)
        for row, (one, query, which) in enumerate(zip(prompt, position, span, strict=True)):
            tokens = [token for token in spans[which].tokens if token <= query]
            if tokens and why is None and not lost[one, query]:
                found[:, row] = whole[one, query, tokens].sum(), even[one, query, tokens].sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            lift = np.log(found[0] / found[1])
        said = np.full(len(at), 2) if why is not None else unrebuilt[prompt, position].astype(np.int32)
        return {
            TABLE: {
                "prompt_id": Categorical([one.prompt_id for one in encoded], prompt),
                "position": position,
                "span": Categorical([one.name for one in spans], span),
                "rollout": found[0],
                "rollout_null": found[1],
                "lift": np.where(np.isfinite(lift), lift, np.nan),
                "undecomposed": Categorical([None, NOT_REBUILT, why], said),
            }
        }


def refuse_long(one: Encoded) -> None:
    """Refuse a prompt whose rows up to the last probed position are too many.

    Raises:
        ElimError: There are more than ``MOST_TOKENS``.
    """
    count = one.positions[-1] + 1
    if count > MOST_TOKENS:
        raise ElimError(
            f"`rollout` forms every row up to the probed position: {count:,} rows, more than {MOST_TOKENS},"
            f" which would take as long as {round(count / PASSES)} forward passes, and much longer for longer"
            " prompts",
            f"probe a `position` before token {MOST_TOKENS}, shorten the prompt, or leave `rollout` out",
        )
