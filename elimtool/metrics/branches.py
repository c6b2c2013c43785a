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

    @property
    def count(self) -> int:
        """Number of parts: heads, or 1 for an MLP."""
        return self.values.count if isinstance(self.values, Heads) else 1

    def shares(self, rows: RowIndex, toward: Float[Tensor, "rows k width"]) -> Float[Tensor, "rows k parts"]:
        """Return what the heads (or the MLP) add to logits along directions, without constants."""
        return toward @ self.outputs(rows).transpose(1, 2)

    def outputs(self, rows: RowIndex) -> Float[Tensor, "rows parts width"]:
        """Return what each head (or the MLP) adds to the residual stream, without constants."""
        if isinstance(self.values, Heads):
            return self._added(rows, self.values.at(rows))
        values = wide(self.values[rows])
        # the bias is a constant of its own, not a share of the MLP
        return self._added(rows, (values if self.bias is None else values - wide(self.bias))[:, None])

    def constant(self, rows: RowIndex) -> Float[Tensor, "rows width"] | None:
        """Return what the branch's biases add to the residual stream; ``None`` without any."""
        found = None
        if self.bias is not None:
            found = self._added(rows, wide(self.bias).expand(len(rows[0]), 1, -1))[:, 0]
        if self.gain is not None:
            behind = (self.gain.bias * self.multiplier).expand(len(rows[0]), -1)
            found = behind if found is None else found + behind
        return found

    def pulled(self, rows: RowIndex, toward: Float[Tensor, "rows k width"]) -> Float[Tensor, "rows k width"]:
        """Carry directions back to the branch's output."""
        back = toward if self.multiplier == 1.0 else toward * self.multiplier
        if self.gain is None or self.scale is None:
            return back
        return pull(back, self.gain, self.scale[rows])

    def written(
        self, rows: RowIndex, inputs: Float[Tensor, "rows some inner"]
    ) -> Float[Tensor, "rows some width"]:
        """Carry parts of the heads' values side by side to the residual stream, without constants."""
        assert isinstance(self.values, Heads)
        return self._added(rows, inputs @ wide(self.values.weight).T)

    def _added(
        self, rows: RowIndex, found: Float[Tensor, "rows some width"]
    ) -> Float[Tensor, "rows some width"]:
        """Carry outputs of the last projection to the residual stream, without constants."""
        if self.gain is not None and self.scale is not None:
            found = self.gain.centre(found) * self.gain.gain * self.scale[rows][:, None, None]
        return found if self.multiplier == 1.0 else found * self.multiplier


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
    constants = [found for branch in branches if (found := branch.constant(rows)) is not None]
    last = torch.stack(constants).sum(0) if constants else torch.zeros_like(embedding)
    parts = [embedding[:, None], *(branch.outputs(rows) for branch in branches), last[:, None]]
    shares = (toward_tokens(directions) @ torch.cat(parts, 1).transpose(1, 2)).double()
    shares[..., -1] += torch.cat([directions.constant, directions.mean_constant[:, None]], 1)
    return shares


def _behind(block: Block, which: int) -> tuple[Gain | None, Tensor | None]:
    norm = block.behind[which]
    return (None, None) if norm is None else (norm.fixed, norm.scale)
