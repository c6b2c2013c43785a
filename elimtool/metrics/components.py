"""Components: what each head, each MLP, the embedding and the constants add to the logit of each target.

Tables ``components``, and ``contrast_components``, the same for the difference of a target's logit and a
foil's. The last residual is the sum of all that was added to it. With the final norm's scale
frozen, the logit before a soft cap is an affine map of it, so every part has a share of the logit, and the
shares sum to it. Norms that some families put behind a block are treated alike, their scales frozen too.

Direct logit attribution: Elhage et al. 2021 (A Mathematical Framework for Transformer Circuits), Wang et al.
2022 (arXiv 2211.00593). A large share does not prove that a part is needed: later layers may compensate for
its removal (McGrath et al. 2023, arXiv 2307.15771).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.metrics.columns import Categorical, null_where, place
from elimtool.metrics.metric import Indices, Metric, ReadoutView, Settings
from elimtool.model.affine import Directions, Gain, pull, tolerance, wide
from elimtool.model.heads import Heads, RowIndex
from elimtool.model.view import Batch, Block, LayerView

ROUNDING = 4.0
"""Allowed error of a sum, in rounding units of the model's dtype at the sum of absolute shares."""


class Components(Metric):
    """Keeps what each block added at the probed rows, and attributes the logits to it when they are read.

    The tables are filled with ``Settings.heads``, and only if every block of the batch is the sum of its
    heads and its MLP; else they have no rows, and table ``mechanisms`` says why.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"block"})
    tables: ClassVar[tuple[str, ...]] = ("components", "contrast_components")

    def __init__(self, batch: Batch, settings: Settings) -> None:
        super().__init__(batch, settings)
        self.wanted = settings.heads
        self.embedding: Tensor | None = None
        self.branches: list[Branch] = []
        self.flaws: list[Callable[[], str | None] | None] = []

    def observe(self, view: LayerView) -> None:
        """Keep the parts of one block, or give up where they cannot sum to its update."""
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
        """Attribute the followed targets' logits to components, if these sum to every update."""
        if self.wanted and any(flaw is not None and flaw() is not None for flaw in self.flaws):
            self._give_up()
        if not self.wanted or self.embedding is None or view.directions is None:
            return
        ids = view.followed.ids
        directions = view.directions(ids, slice(None))
        shares = share_out(wide(self.embedding[view.rows]), self.branches, view.rows, directions)
        _refuse_incomplete(shares[:, :-1].sum(-1), shares[:, :-1], directions.logits, self.embedding.dtype)
        self.filled["components"].append(self._columns(view, shares))
        pairs = view.followed.pairs
        if len(pairs[0]):
            self.filled["contrast_components"].append(self._contrast_columns(view, pairs, shares))

    def _columns(self, view: ReadoutView, shares: Float[Tensor, "rows k1 parts"]) -> dict[str, Any]:
        targets = ((view.followed.ids >= 0) & ~view.followed.is_foil).cpu().numpy()
        row, k, part = cells = targets[:, :, None].repeat(shares.shape[-1], axis=2).nonzero()
        centred = shares[:, :-1] - shares[:, -1:]
        return {
            **place(self.batch, view.rows, row),
            **view.followed.names(row, k),
            **self._named(shares.shape[-1], part),
            "dla": shares[:, :-1].cpu().numpy()[cells],
            "dla_centred": centred.cpu().numpy()[cells],
        }

    def _contrast_columns(
        self, view: ReadoutView, pairs: Indices, shares: Float[Tensor, "rows k1 parts"]
    ) -> dict[str, Any]:
        values = shares.cpu().numpy()
        n_parts = values.shape[-1]
        row, target, foil = (index.repeat(n_parts) for index in pairs)
        part = np.tile(np.arange(n_parts), len(pairs[0]))
        return {
            **place(self.batch, view.rows, row),
            **view.followed.names(row, target),
            **view.followed.names(row, foil, "foil"),
            **self._named(n_parts, part),
            "dla_difference": values[row, target, part] - values[row, foil, part],
        }

    def _named(self, n_parts: int, part: npt.NDArray[np.intp]) -> dict[str, Any]:
        """Return the columns that say which component a part is."""
        n_layers = len(self.branches) // 2
        names, kinds, layers, heads = _labels(n_layers, (n_parts - 2) // n_layers - 1)
        return {
            "component": Categorical(names, part),
            "kind": Categorical(kinds, part),
            "layer": null_where(layers[part], layers[part] < 0),
            "head": null_where(heads[part], heads[part] < 0),
        }


@dataclass(frozen=True, slots=True)
class Branch:
    """The attention or the MLP of a block, and how its output reaches the residual stream.

    Attributes:
        values: Outputs of the MLP; for attention its heads, which compute theirs.
        bias: Bias of the branch's last projection.
        gain: Norm behind the branch, ``None`` for none.
        scale: Scale of that norm.
        multiplier: Factor of the branch in its family.
    """

    values: Float[Tensor, "batch probes width"] | Heads
    bias: Float[Tensor, "width"] | None
    gain: Gain | None
    scale: Float[Tensor, "batch probes"] | None
    multiplier: float

    @classmethod
    def attention(cls, block: Block) -> Branch:
        """Return the attention branch of a block that has one."""
        assert block.heads is not None
        assert block.attention is not None
        return cls(block.heads, block.attention.bias, *_behind(block, 0), block.multiplier)

    @classmethod
    def mlp(cls, block: Block) -> Branch:
        """Return the MLP branch of a block that has one."""
        assert block.mlp is not None
        return cls(block.mlp.outputs, block.mlp.bias, *_behind(block, 1), block.multiplier)

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        return len(self.values.weight) if isinstance(self.values, Heads) else self.values.shape[-1]

    def shares(
        self, rows: RowIndex, toward: Float[Tensor, "rows k width"]
    ) -> tuple[Float[Tensor, "rows k parts"], Float[Tensor, "rows k"] | None]:
        """Return what the heads (or the MLP) add to logits along directions, and constants if any."""
        back, constant = self.pulled(rows, toward)
        if isinstance(self.values, Heads):
            outputs = self.values.at(rows)
        else:
            values = wide(self.values[rows])
            # the bias is a constant of its own, not a share of the MLP
            outputs = (values if self.bias is None else values - wide(self.bias))[:, None]
        return back @ outputs.transpose(1, 2), constant

    def pulled(
        self, rows: RowIndex, toward: Float[Tensor, "rows k width"]
    ) -> tuple[Float[Tensor, "rows k width"], Float[Tensor, "rows k"] | None]:
        """Carry directions back to the branch's output; return them and what its constants add to logits."""
        constant, back = None, toward
        if self.multiplier != 1.0:
            back = toward * self.multiplier
        if self.gain is not None and self.scale is not None:
            constant = back @ self.gain.bias
            back = pull(back, self.gain, self.scale[rows])
        if self.bias is not None:
            of_bias = back @ wide(self.bias)
            constant = of_bias if constant is None else constant + of_bias
        return back, constant


def toward_tokens(directions: Directions) -> Float[Tensor, "rows k1 width"]:
    """Return the directions of tokens and last of the mean logit, which centred shares subtract."""
    return torch.cat([directions.toward, directions.mean_toward[:, None]], 1)


def share_out(
    embedding: Float[Tensor, "rows width"], branches: Sequence[Branch], rows: RowIndex, directions: Directions
) -> Float[Tensor, "rows k1 parts"]:
    """Attribute tokens' logits, and last the vocabulary's mean logit, to components.

    Returns:
        float64 logits. Parts in the order embedding; heads, then MLP, of each layer; constants.
    """
    toward = toward_tokens(directions)
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
    """List name, kind, layer and head (-1 for none) of every part, in the order of ``share_out``."""
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
    # at least 10: near 0 a logit has no relative precision
    allowed = tolerance(dtype) * logits.abs().double().clamp(min=10.0) + rounding
    off = (total - logits).abs()
    if bool((off > allowed).any()):
        raise ElimError(
            f"the components of a logit sum to it only within {float(off.max()):.3g} logits",
            "elimtool does not know something that this architecture adds to its residual stream",
        )
