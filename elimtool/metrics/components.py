"""Components: what each head, each MLP, the embedding and the constants gave the logit of each target.

Table ``components``. The last residual is the sum of all that was added to it, and with the final norm's
scale frozen the logit before a soft cap is an affine map of it, so every part has a share of the logit and
the shares sum to it. Directions are carried back through the norms that some families put behind a block
(their scales frozen too).

Direct logit attribution: Elhage et al. 2021 (A Mathematical Framework for Transformer Circuits), Wang et al.
2022 (arXiv 2211.00593). A large share is no proof of need: later layers may make up for a part that is
removed (McGrath et al. 2023, arXiv 2307.15771).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.metrics.columns import Categorical, Columns, join, names_at, null_where, place
from elimtool.metrics.metric import Metric, ReadoutView, Settings
from elimtool.model.affine import Directions, Gain, pull, tolerance, wide
from elimtool.model.heads import Heads, RowIndex
from elimtool.model.view import Batch, Block, LayerView

ROUNDING = 4.0
"""Units of rounding (of the model's dtype, at the size of all shares together) that a sum may be off by."""


class Components(Metric):
    """Keeps what each block added at the probed rows, and shares the logits out when they are read.

    Filled where single heads are asked for (``Settings.heads``), and only for a batch whose every block is
    the sum of its heads and its MLP; else the table has no rows and ``mechanisms`` says why.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"block"})
    tables: ClassVar[tuple[str, ...]] = ("components",)

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.wanted = settings.heads
        self.embedding: Tensor | None = None
        self.branches: list[Branch] = []
        self.flaws: list[Callable[[], str | None] | None] = []
        self.filled: list[Columns] = []

    def observe(self, view: LayerView) -> None:
        """Keep the parts of one block, or give up where they cannot make up its update."""
        if not self.wanted:
            return
        if view.layer < 0:
            self.embedding = view.residual
        elif view.block is None or view.block.heads is None or view.block.mlp is None:
            self._give_up()
        else:
            self.branches += [Branch.attention(view.block), Branch.mlp(view.block)]
            self.flaws.append(view.block.flaw)

    def _give_up(self) -> None:
        self.wanted = False
        self.branches.clear()
        self.flaws.clear()

    def read(self, view: ReadoutView) -> None:
        """Share the followed targets' logits out over the components, where they make up every update."""
        if self.wanted and any(flaw is not None and flaw() is not None for flaw in self.flaws):
            self._give_up()
        if not self.wanted or self.embedding is None or view.directions is None:
            return
        ids = view.followed.ids.masked_fill(view.followed.is_foil, -1)
        directions = view.directions(ids, slice(None))
        shares = share_out(wide(self.embedding[view.rows]), self.branches, view.rows, directions)
        _refuse_incomplete(shares[:, :-1].sum(-1), shares[:, :-1], directions.logits, self.embedding.dtype)
        self.filled.append(self._columns(view, ids, shares))

    def _columns(
        self, view: ReadoutView, ids: Int[Tensor, "rows k"], shares: Float[Tensor, "rows k1 parts"]
    ) -> dict[str, Any]:
        n_layers = len(self.branches) // 2
        names, kinds, layers, heads = _labels(n_layers, (shares.shape[-1] - 2) // n_layers - 1)
        real = (ids >= 0).cpu().numpy()[:, :, None].repeat(len(names), axis=2)
        row, k, part = cells = real.nonzero()
        centred = shares[:, :-1] - shares[:, -1:]
        return {
            **place(self.batch, view.rows, row),
            "target": names_at(view.followed.texts, row, k),
            "component": Categorical(names, part),
            "kind": Categorical(kinds, part),
            "layer": null_where(layers[part], layers[part] < 0),
            "head": null_where(heads[part], heads[part] < 0),
            "dla": shares[:, :-1].cpu().numpy()[cells],
            "dla_centred": centred.cpu().numpy()[cells],
        }

    def finish(self) -> dict[str, Columns]:
        """Columns of the table."""
        return {"components": join(self.filled)}


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the two ways through a block: what goes into its last step, and how that reaches the stream.

    Attributes:
        values: Outputs of the MLP; of attention its heads, which form theirs.
        bias: Bias of the branch's last projection.
        gain: The norm behind the branch, ``None`` for none.
        scale: That norm's scale.
        multiplier: What the family multiplies the branch with.
    """

    values: Float[Tensor, "batch probes width"] | Heads
    bias: Float[Tensor, "width"] | None
    gain: Gain | None
    scale: Float[Tensor, "batch probes"] | None
    multiplier: float

    @classmethod
    def attention(cls, block: Block) -> Branch:
        """The branch of the heads; the block is known to have one."""
        assert block.heads is not None
        assert block.attention is not None
        return cls(block.heads, block.attention.bias, *_behind(block, 0), block.multiplier)

    @classmethod
    def mlp(cls, block: Block) -> Branch:
        """The branch of the MLP; the block is known to have one."""
        assert block.mlp is not None
        return cls(block.mlp.outputs, block.mlp.bias, *_behind(block, 1), block.multiplier)

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        return len(self.values.weight) if isinstance(self.values, Heads) else self.values.shape[-1]

    def shares(
        self, rows: RowIndex, toward: Float[Tensor, "rows k width"]
    ) -> tuple[Float[Tensor, "rows k parts"], Float[Tensor, "rows k"] | None]:
        """Logits that the heads (or the MLP) give along some directions, and constants if there are any."""
        constant, back = None, toward
        if self.multiplier != 1.0:
            back = toward * self.multiplier
        if self.gain is not None and self.scale is not None:
            constant = back @ self.gain.bias
            back = pull(back, self.gain, self.scale[rows])
        bias = None if self.bias is None else wide(self.bias)
        if bias is not None:
            constant = back @ bias if constant is None else constant + back @ bias
        if isinstance(self.values, Heads):
            outputs = self.values.at(rows)
        else:
            values = wide(self.values[rows])
            outputs = (values if bias is None else values - bias)[:, None]
        return back @ outputs.transpose(1, 2), constant


def share_out(
    embedding: Float[Tensor, "rows width"], branches: Sequence[Branch], rows: RowIndex, directions: Directions
) -> Float[Tensor, "rows k1 parts"]:
    """Shares of some tokens' logits, and last of the vocabulary's mean logit, by component.

    Returns:
        float64 logits. Parts in the order embedding; heads, then MLP, of each layer; constants.
    """
    toward = torch.cat([directions.toward, directions.mean_toward[:, None]], 1)
    constant = torch.cat([directions.constant, directions.mean_constant[:, None]], 1).double()
    parts = [_dot(toward, embedding)[..., None]]
    for branch in branches:
        shares, biases = branch.shares(rows, toward)
        parts.append(shares)
        if biases is not None:
            constant = constant + biases
    return torch.cat([torch.cat(parts, -1).double(), constant[..., None]], -1)


def _behind(block: Block, which: int) -> tuple[Gain | None, Tensor | None]:
    norm = block.behind[which]
    return (None, None) if norm is None else (norm.fixed, norm.scale)


def _dot(
    toward: Float[Tensor, "rows k width"], values: Float[Tensor, "rows width"]
) -> Float[Tensor, "rows k"]:
    return torch.einsum("rkd,rd->rk", toward, values)


def _labels(n_layers: int, n_heads: int) -> tuple[Any, Any, Any, Any]:
    """Name, kind, layer and head (-1 for none) of every part, in the order of ``share_out``."""
    rows: list[tuple[str, str, int, int]] = [("embed", "embed", -1, -1)]
    for layer in range(n_layers):
        rows += [(f"head {layer}.{head}", "head", layer, head) for head in range(n_heads)]
        rows.append((f"mlp {layer}", "mlp", layer, -1))
    rows.append(("bias", "bias", -1, -1))
    names, kinds, layers, heads = zip(*rows, strict=True)
    return names, kinds, np.array(layers), np.array(heads)


def _refuse_incomplete(
    total: Float[Tensor, "rows k"],
    shares: Float[Tensor, "rows k parts"],
    logits: Float[Tensor, "rows k"],
    dtype: torch.dtype,
) -> None:
    """Refuse shares that do not sum to the logits, up to the rounding of the model's own sums."""
    rounding = ROUNDING * torch.finfo(dtype).eps * shares.abs().sum(-1)
    allowed = tolerance(dtype) * logits.abs().double().clamp(min=10.0) + rounding
    off = (total - logits).abs()
    if bool((off > allowed).any()):
        raise ElimError(
            f"the components of a logit sum to it only within {float(off.max()):.3g} logits",
            "elimtool does not know something that this architecture adds to its residual stream",
        )
