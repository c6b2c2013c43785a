"""Carry directions of logits back through the branches of blocks: what heads and MLPs add along them.

The last residual is the sum of all that was added to it. With the final norm's scale frozen, the logit before
a soft cap is an affine map of it, so every part has a share of the logit. Norms that some families put behind
a block are treated alike, their scales frozen too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.model.affine import Directions, Gain, pull, wide
from elimtool.model.heads import Heads, RowIndex
from elimtool.model.view import Block


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

    def written(
        self, rows: RowIndex, inputs: Float[Tensor, "rows some inner"]
    ) -> Float[Tensor, "rows some width"]:
        """Carry parts of the heads' values side by side to the residual stream, without constants."""
        assert isinstance(self.values, Heads)
        found = inputs @ wide(self.values.weight).T
        if self.gain is not None and self.scale is not None:
            found = self.gain.centre(found) * self.gain.gain * self.scale[rows][:, None, None]
        return found * self.multiplier


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
