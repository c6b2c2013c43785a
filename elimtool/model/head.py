"""Read residual streams out as logits by the model's own head, and give that map as directions of tokens.

The final norm, the unembedding and whatever a family does after it (scales, soft caps, biases) are run, not
reimplemented. The directions are read off the weights and checked against the head's own logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from elimtool.errors import ElimError
from elimtool.model.affine import Directions, Gain, pull, tolerance, wide
from elimtool.model.few_rows import few_rows
from elimtool.model.own_code import own_code
from elimtool.model.placement import device_of, weight_of
from elimtool.numerics.transfer import arrays

SMALL = 1e-3
"""Logits of this size pass a soft cap unchanged, so they show the factor before it."""


def text_config(hf: Any) -> Any:
    """Return the configuration of a model's text part; ``None`` for TransformerLens' own small models."""
    config: Any = getattr(hf, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else None


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
            return wide(self._after_norm(self.normed(residual)))

    def _heard(self) -> bool:
        """Tell whether a hook sees the logits: it may keep them, so they must not be overwritten."""
        model = self.bridge.original_model
        return any(module._forward_hooks for module in (model, *self.bridge.unembed.modules()))

    def normed(self, residual: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """Apply the final norm, in the model's dtype."""
        norm = getattr(self.bridge, "ln_final", None)
        hidden: Tensor = residual.to(self.sample.dtype)
        return hidden if norm is None else norm(hidden[None].to(device_of(norm, hidden.device)))[0]

    def _after_norm(self, hidden: Tensor) -> Tensor:
        model = self.bridge.original_model
        if not hasattr(model, "base_model_prefix"):  # TransformerLens' own small models have no head to run
            logits: Tensor = self.bridge.unembed(hidden[None])[0]
            return self.cap * torch.tanh(logits / self.cap) if self.cap > 0 else logits
        around = [model.get_submodule(name) for name in self._around]
        with _given(around, hidden[None]), own_code(self.name):
            given: Tensor = model(input_ids=None, inputs_embeds=hidden[None], use_cache=False).logits[0]
        return given.to(self.sample.device)

    @cached_property
    def _around(self) -> list[str]:
        """Names of the modules around the blocks, without those that hold the head, which is to run."""
        names = str(self.bridge.adapter.component_mapping["blocks"].name).split(".")[:-1]
        around = [".".join(names[: n + 1]) for n in range(len(names))]
        head = getattr(self.bridge.unembed, "original_component", None)
        get = self.bridge.original_model.get_submodule
        # a whole language model inside a shell (Llama 4) holds it
        return [name for name in around if all(module is not head for module in get(name).modules())]

    @cached_property
    def cap(self) -> float:
        """Soft cap c of the logits, z -> c tanh(z / c); 0 for none."""
        stated = getattr(text_config(self.bridge.original_model), "final_logit_softcapping", None)
        return float(stated or getattr(self.bridge.cfg, "output_logits_soft_cap", 0.0) or 0.0)

    @cached_property
    def _linear(self) -> list[nn.Linear]:
        layer = getattr(getattr(self.bridge, "unembed", None), "original_component", None)
        return [layer] if isinstance(layer, nn.Linear) else []

    @cached_property
    def _norm(self) -> Gain | None:
        norm = getattr(self.bridge, "ln_final", None)
        width = int(self.bridge.cfg.d_model)
        return None if norm is None else Gain.of(norm, width, self.sample)

    @cached_property
    def _unembedding(self) -> tuple[Tensor, Tensor | None]:
        """Weight [vocab, width] and bias [vocab] of the unembedding."""
        layer = getattr(self.bridge.unembed, "original_component", None)
        weight, bias = weight_of(layer, "weight"), weight_of(layer, "bias")
        if weight is None or weight.ndim != 2 or weight.shape[1] != self.bridge.cfg.d_model:
            raise ElimError(
                f"{self.name}: the unembedding has no weight matrix to read the directions of tokens from",
                "elimtool cannot attribute the logits of this architecture",
            )
        there = self.sample.device
        return weight.to(there), bias.to(there) if bias is not None and bool(bias.any()) else None

    @cached_property
    def _factor(self) -> float:
        """Factor of the family on the unembedding's output (Cohere, Granite); 1 for most."""
        hidden = self.sample.new_ones(1, int(self.bridge.cfg.d_model))
        hidden[:, ::2] = -1.0  # signs alternate: an unembedding may map a constant vector to nearly 0
        plain = self._unembedded(hidden)
        if self._unembedding[1] is None:
            hidden = hidden * (SMALL / float(plain.abs().max()))
            plain = self._unembedded(hidden)
        own = wide(self._after_norm(hidden))
        return float((own.double() * plain.double()).sum() / plain.double().square().sum())

    def _unembedded(self, hidden: Tensor) -> Tensor:
        return wide(self.bridge.unembed(hidden[None])[0]).to(self.sample.device)

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
            norm = self._norm.frozen(
                residual[None].to(self.sample.dtype), self.normed(residual)[None].to(residual.device)
            )
            constant = constant + both @ self._norm.bias
            both = pull(both, self._norm, norm.scale[0])
        logits = torch.einsum("rkd,rd->rk", both[:, :-1], wide(residual)) + constant[:, :-1]
        self._check(own, tokens, logits)
        return Directions(both[:, :-1], constant[:, :-1], both[:, -1], constant[:, -1], logits)

    def written(self, tokens: Int[Tensor, " k"]) -> Float[Tensor, "k width"]:
        """Give what a vector must point along to raise tokens' logits; see ``Model.written``."""
        rows = wide(self._unembedding[0][tokens]) * self._factor
        return rows if self._norm is None else self._norm.centre(rows * self._norm.gain)

    def rows(self) -> Float[Tensor, "vocab width"]:
        """Give the unembedding's rows, in at least float32."""
        return wide(self._unembedding[0])

    def slopes(
        self, residual: Float[Tensor, "width"], steps: Float[Tensor, "k width"]
    ) -> Float[Tensor, "k vocab"]:
        """Differentiate all logits along some directions at a last residual; see ``Model.slopes``."""
        moved = wide(steps)
        if self._norm is not None:
            inputs, outputs = residual[None, None].to(self.sample.dtype), self.normed(residual[None])
            norm = self._norm.frozen(inputs, outputs[None].to(residual.device))
            # y = g c / sqrt(|c|^2 / d + eps), c the centred input: its scale changes with c, too
            scale, moved = norm.scale[0, 0], self._norm.centre(moved)
            unit = self._norm.centre(wide(residual)) * scale
            moved = self._norm.gain * scale * (moved - torch.outer(moved @ unit, unit) / unit.numel())
        slopes = moved @ self.rows().T * self._factor
        if self.cap > 0:
            slopes = slopes * (1 - (self.logits(residual[None]) / self.cap).square())
        return slopes

    def _check(self, own: Tensor, tokens: Tensor, logits: Tensor) -> None:
        """Refuse directions that do not reproduce the head's own logits."""
        truth = own.gather(-1, tokens)
        capped = self.cap * torch.tanh(logits / self.cap) if self.cap > 0 else logits
        found = arrays({"off": (truth - capped).abs().max(), "most": own.abs().max()})
        difference = float(found["off"])
        if difference > tolerance(self.sample.dtype) * max(1.0, float(found["most"])):
            raise ElimError(
                f"{self.name}: the directions of the tokens miss the logits by {difference:.3g}",
                "elimtool does not know how this architecture turns its last layer into logits",
            )


@contextmanager
def _given(around: Sequence[nn.Module], hidden: Tensor) -> Iterator[None]:
    """While open, the modules around a model's blocks give a fixed last hidden state and run nothing.

    A head may call any of them: the body, the decoder inside (OPT), the language model inside (Gemma 3 with
    images). All else that it reads stays.
    """
    before = [module.__dict__.get("forward") for module in around]
    output = _BodyOutput(hidden)
    try:
        for module in around:
            module.__dict__["forward"] = lambda *_args, **_named: output
        yield
    finally:
        for module, own in zip(around, before, strict=True):
            del module.__dict__["forward"]
            if own is not None:  # such as accelerate's, which moves tensors between devices
                module.__dict__["forward"] = own


class _BodyOutput:
    """A body's output: the last hidden state, and ``None`` for whatever else a family's head reads."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):  # Python's own questions: no, it is no mapping and no sequence
            raise AttributeError(name)

    def __getitem__(self, index: int) -> Tensor | None:
        return None if index else self.last_hidden_state
