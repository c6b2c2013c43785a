"""Read residual streams out as logits by the model's own head, and give that map as directions of tokens.

The final norm, the unembedding and whatever a family does after it (scales, soft caps, biases) are run, not
reimplemented. The directions are read off the weights and checked against the head's own logits.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from elimtool.errors import ElimError
from elimtool.model.affine import Directions, Gain, pull, tolerance, wide
from elimtool.model.few_rows import few_rows

SMALL = 1e-3
"""Logits of this size pass a soft cap unchanged, so they show the factor before it."""


class Head:
    """A model's final norm and unembedding.

    Args:
        bridge: The ``TransformerBridge``.
        name: The user's name for the model, for errors.
        sample: Any tensor with the model's dtype and device.
    """

    def __init__(self, bridge: Any, name: str, sample: Tensor) -> None:
        self.bridge = bridge
        self.name = name
        self.sample = sample

    def logits(
        self, residual: Float[Tensor, "rows width"], room: Float[Tensor, "most vocab"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Compute logits of residual streams; see ``Model.readout``."""
        with few_rows(self._linear, None if self._heard() else room):
            return wide(self._after_norm(self._normed(residual)))

    def _heard(self) -> bool:
        """Tell whether a hook sees the logits: it may keep them, so they must not be overwritten."""
        model = self.bridge.original_model
        return any(module._forward_hooks for module in (model, *self.bridge.unembed.modules()))

    def _normed(self, residual: Tensor) -> Tensor:
        norm = getattr(self.bridge, "ln_final", None)
        hidden: Tensor = residual.to(self.sample.dtype)
        return hidden if norm is None else norm(hidden[None])[0]

    def _after_norm(self, hidden: Tensor) -> Tensor:
        model = self.bridge.original_model
        prefix = getattr(model, "base_model_prefix", None)
        if prefix is None:  # TransformerLens' own small models have no Hugging Face head to run
            logits: Tensor = self.bridge.unembed(hidden[None])[0]
            return self.cap * torch.tanh(logits / self.cap) if self.cap > 0 else logits
        modules = model._modules
        base = modules[prefix]
        modules[prefix] = _Given(hidden[None])  # in place of the body, so that only the head runs
        try:
            given: Tensor = model(input_ids=None, use_cache=False).logits[0]
        finally:
            modules[prefix] = base
        return given

    @cached_property
    def cap(self) -> float:
        """Soft cap c of the logits, z -> c tanh(z / c); 0 for none."""
        config = getattr(self.bridge.original_model, "config", None)
        stated = getattr(config, "final_logit_softcapping", None)
        return float(stated or getattr(self.bridge.cfg, "output_logits_soft_cap", 0.0) or 0.0)

    @cached_property
    def _linear(self) -> list[nn.Linear]:
        layer = getattr(getattr(self.bridge, "unembed", None), "original_component", None)
        return [layer] if isinstance(layer, nn.Linear) else []

    @cached_property
    def _norm(self) -> Gain | None:
        norm = getattr(self.bridge, "ln_final", None)
        width = int(self.bridge.cfg.d_model)
        return None if norm is None else Gain.of(norm, width, self.sample.dtype, self.sample.device)

    @cached_property
    def _unembedding(self) -> tuple[Tensor, Tensor | None]:
        """Weight [vocab, width] and bias [vocab] of the unembedding."""
        layer = getattr(self.bridge.unembed, "original_component", None)
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[1] != self.bridge.cfg.d_model:
            raise ElimError(
                f"{self.name}: the unembedding has no weight matrix to read the directions of tokens from",
                "elimtool cannot attribute the logits of this architecture",
            )
        return weight, bias if isinstance(bias, Tensor) and bool(bias.any()) else None

    @cached_property
    def _factor(self) -> float:
        """Factor of the family on the unembedding's output (Cohere, Granite); 1 for most."""
        hidden = self.sample.new_ones(1, int(self.bridge.cfg.d_model))
        hidden[:, ::2] = -1.0  # signs alternate: an unembedding may map a constant vector to nearly 0
        plain = wide(self.bridge.unembed(hidden[None])[0])
        if self._unembedding[1] is None:
            hidden = hidden * (SMALL / float(plain.abs().max()))
            plain = wide(self.bridge.unembed(hidden[None])[0])
        own = wide(self._after_norm(hidden))
        return float((own.double() * plain.double()).sum() / plain.double().square().sum())

    @cached_property
    def _mean(self) -> tuple[Tensor, float]:
        weight, bias = self._unembedding
        # float64: a sum over the whole vocabulary
        return wide(weight.mean(0, dtype=torch.float64).float()), 0.0 if bias is None else float(bias.mean())

    def directions(
        self,
        residual: Float[Tensor, "rows width"],
        tokens: Int[Tensor, "rows k"],
        own: Float[Tensor, "rows vocab"],
    ) -> Directions:
        """Give the logits of some tokens as an affine map of the last residual, final norm's scale frozen.

        Args:
            residual: The last layer's residual.
            tokens: Vocabulary indices; negative ones are taken as 0.
            own: The residual's logits from the head itself.

        Raises:
            ElimError: The directions do not reproduce the head's own logits.
        """
        weight, bias = self._unembedding
        tokens = tokens.clamp(min=0)
        rows = wide(weight[tokens]) * self._factor
        mean, mean_bias = self._mean[0] * self._factor, self._mean[1] * self._factor
        both = torch.cat([rows, mean.to(rows.dtype).expand(len(rows), 1, -1)], 1)
        constant = both.new_zeros(both.shape[:2])
        if bias is not None:
            constant[:, :-1] = wide(bias[tokens]) * self._factor
            constant[:, -1] = mean_bias
        if self._norm is not None:
            norm = self._norm.frozen(residual[None].to(self.sample.dtype), self._normed(residual)[None])
            constant = constant + both @ self._norm.bias
            both = pull(both, self._norm, norm.scale[0])
        logits = torch.einsum("rkd,rd->rk", both[:, :-1], wide(residual)) + constant[:, :-1]
        self._check(own, tokens, logits)
        return Directions(both[:, :-1], constant[:, :-1], both[:, -1], constant[:, -1], logits)

    def _check(self, own: Tensor, tokens: Tensor, logits: Tensor) -> None:
        """Refuse directions that do not reproduce the head's own logits."""
        truth = own.gather(-1, tokens)
        capped = self.cap * torch.tanh(logits / self.cap) if self.cap > 0 else logits
        difference = float((truth - capped).abs().max())
        if difference > tolerance(self.sample.dtype) * max(1.0, float(own.abs().max())):
            raise ElimError(
                f"{self.name}: the directions of the tokens miss the logits by {difference:.3g}",
                "elimtool does not know how this architecture turns its last layer into logits",
            )


class _Given(nn.Module):
    """A stand-in for a model's body that returns a fixed last hidden state."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    @property
    def decoder(self) -> _Given:
        """Itself, for families (OPT) that call the decoder inside their body."""
        return self

    def forward(self, *_args: Any, **_options: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self.hidden)
