"""Compute gradients of a prompt's output by the input of the first block, at the prompt or elsewhere.

That input is the token embeddings, with what a family adds to them (positions) or multiplies them with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.model.affine import wide
from elimtool.model.interventions.edits import Site
from elimtool.model.interventions.install import hook_point
from elimtool.model.interventions.recording import dtype_name
from elimtool.model.view import Batch, Encoded

if TYPE_CHECKING:
    from elimtool.model.model import Model

VOCABULARY_ROWS = 8192
"""Embeddings averaged at a time."""

Value = Callable[[Tensor], Tensor]
"""Logits [rows, vocab] to one number a row."""


def refuse_half(model: Model, method: str) -> None:
    """Refuse number types whose rounding drowns a gradient.

    Raises:
        ElimError: The model is in half precision.
    """
    if model.dtype not in (torch.float32, torch.float64):
        raise ElimError(
            f"method {method} needs float32, the model runs in {dtype_name(model.dtype)}",
            "use `dtype='float32'`",
        )


class InputGradients:
    """A prompt's input to the first block, and gradients of its last logits by that input.

    Args:
        model: A model in float32 or float64.
        one: The prompt; gradients are of its last position's logits.

    Attributes:
        inputs: The prompt's input to the first block.
        forward, backward: Prompts run so far.
    """

    def __init__(self, model: Model, one: Encoded) -> None:
        self.model = model
        self.one = one
        self.forward = 0
        self.backward = 0
        self._point = hook_point(model.bridge, Site(-1, "residual"))
        self.inputs = self._entering()

    def neutral(self) -> Float[Tensor, "keys width"]:
        """Compute the first block's input if every token's embedding were the mean over the vocabulary."""
        embed = self.model.bridge.embed
        table = embed.original_component
        with torch.no_grad():
            ids = torch.arange(table.weight.shape[0], device=self.model.device)
            total = torch.zeros(self.model.width, dtype=torch.float64, device=ids.device)
            for part in torch.split(ids, VOCABULARY_ROWS):
                total += table(part[None])[0].double().sum(0)
            mean = (total / len(ids)).to(self.model.dtype)
        with embed.hook_out.register_forward_hook(lambda _m, _i, out: mean.expand(out.shape)):
            return self._entering()

    def values(self, inputs: Float[Tensor, "rows keys width"], value: Value) -> Float[Tensor, "rows"]:
        """Compute the value of each row of inputs."""
        with torch.no_grad():
            return value(self._logits(inputs)).double().cpu()

    def at(self, inputs: Float[Tensor, "rows keys width"], value: Value) -> Float[Tensor, "rows keys width"]:
        """Compute the gradient of each row's value by that row."""
        with torch.enable_grad():  # one sum for all rows: no row's value depends on another row
            leaf = inputs.detach().clone().requires_grad_(True)
            total = value(self._logits(leaf)).sum()
            (found,) = torch.autograd.grad(total, leaf)
        self.backward += len(inputs)
        return found

    def _entering(self) -> Tensor:
        seen: list[Tensor] = []
        look = self._point.register_forward_hook(lambda _m, _i, out: seen.append(out.detach().clone()))
        with look, torch.no_grad():
            self._run(1)
        return seen[0][0]

    def _logits(self, inputs: Tensor) -> Tensor:
        with self._point.register_forward_hook(lambda _m, _i, _out: inputs):
            return wide(self._run(len(inputs)))

    def _run(self, rows: int) -> Tensor:
        self.forward += rows
        batch = Batch.of([self.one] * rows, self.model.device)
        model = self.model
        with self._differentiable(batch):
            if hasattr(model.hf, "base_model_prefix"):
                logits: Tensor = model.call(batch.ids, use_cache=False, logits_to_keep=1).logits
            else:
                logits = model.call(batch.ids)
        return logits[:, -1]

    @contextmanager
    def _differentiable(self, batch: Batch) -> Iterator[None]:
        """Run the model without its bridge, where gradients can pass."""
        # attention with soft caps is computed in place in ``probed``, which autograd refuses
        config = self.model.config
        if self.model.native.usable and getattr(config, "attn_logit_softcapping", None) is None:
            with self.model.alone(batch):
                yield
        else:
            yield


def target_value(target: int, foils: Sequence[int]) -> Value:
    """Make the value to differentiate: a token's log-probability, or with foils its log-odds against them."""

    def value(logits: Tensor) -> Tensor:
        if foils:
            return logits[:, target] - logits[:, list(foils)].logsumexp(-1)
        return logits[:, target] - logits.logsumexp(-1)

    return value
