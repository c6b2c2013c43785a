"""Compare a model under TransformerLens' hooks with plain Hugging Face on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.model.interventions.recording import dtype_name
from elimtool.model.lock import exclusive
from elimtool.model.merging import load_merged
from elimtool.model.model import Model
from elimtool.model.placement import facts
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Prompt

TEXTS = (
    "The capital of France is",
    "def mean(xs):\n    return sum(xs) / len(xs)\n\nprint(mean([1, 2, 3]))",
    "Z\u00fcrich, \u6771\u4eac and \u0391\u03b8\u03ae\u03bd\u03b1: 12,345 people \u2603 said \u201cno\u201d.",
    "one two three one two three one two three one two",
)
"""Default texts: prose, code, several scripts, repetition."""

TOLERANCES = {
    torch.float16: {"attention": 0.05, "residual": 0.1, "logits": 0.05},
    torch.bfloat16: {"attention": 0.2, "residual": 0.3, "logits": 0.1},
}
"""Largest difference allowed in half precision and (float16) with 8-bit weights.

Residuals and logits are relative to their largest value.

About twice the differences within Hugging Face: on SmolLM2 its SDPA and its eager attention differ by up to
0.043 (float16) and 0.16 (bfloat16) in residuals, 0.019 and 0.034 in logits, and its eager attention weights
by 0.019 and 0.13 from those of float32.
"""

EXACT = {"attention": 1e-5, "residual": 1e-4, "logits": 1e-4}
"""Largest difference allowed in float32 and float64, also with 4-bit weights."""


@dataclass(frozen=True, slots=True)
class ActivationDifference:
    """The largest difference of one kind of activation.

    Attributes:
        what: ``attention`` (absolute, of weights), ``residual`` or ``logits`` (relative to the largest).
        largest: The difference.
        tolerance: The largest difference allowed.
        layer: Its layer; ``None`` for the logits.
        text: Number of its text, from 0.
    """

    what: str
    largest: float
    tolerance: float
    layer: int | None
    text: int

    @property
    def passed(self) -> bool:
        """Whether the difference is within its tolerance (a NaN is not)."""
        return self.largest <= self.tolerance


@exclusive
def verify(
    model: Model, *, trust_remote_code: bool = False, texts: Sequence[str] = TEXTS
) -> list[ActivationDifference]:
    """Run both models on some texts, every position probed, and return the largest differences.

    Args:
        model: A model with a directory.
        trust_remote_code: As for ``load_model``.
        texts: The texts to run.

    Returns:
        One difference each for attention rows, residuals by layer, and the logits of the last layer.

    Raises:
        ElimError: The model was made in memory, so there is nothing to compare with.
    """
    if model.directory is None:
        raise ElimError(
            f"{model.name} has no directory to load again", "verify a model that was loaded from one"
        )
    used = [(one.name, one.directory, one.scale) for one in model.adapters or ()]
    dtype = dtype_name(model.dtype)
    plain, _ = load_merged(model.name, model.directory, dtype, trust_remote_code, used, model.placement)
    worst: dict[str, ActivationDifference] = {}
    for number, text in enumerate(texts):
        for found in _differences(model, plain, text, number):
            # not <=: a NaN is worse than any number
            if found.what not in worst or not found.largest <= worst[found.what].largest:
                worst[found.what] = found
    return [worst[what] for what in EXACT if what in worst]


def _differences(model: Model, plain: Any, text: str, number: int) -> list[ActivationDifference]:
    batch = Batch.of([model.encode(Prompt(text=text), position="all")], model.device)
    truth = plain_activations(plain, model.block_names, batch.ids)
    # bitsandbytes casts what 8-bit layers read to float16
    half = facts(model.hf).get("quantization", {}).get("load_in_8bit") and model.dtype != torch.bfloat16
    tolerances = TOLERANCES.get(torch.float16 if half else model.dtype, EXACT)
    found: list[ActivationDifference] = []
    last: list[Tensor] = []

    def differ(what: str, ours: Tensor, theirs: Tensor, layer: int | None = None) -> None:
        theirs = theirs.to(ours.dtype)
        scale = 1.0 if what == "attention" else max(1.0, float(theirs.abs().max()))
        largest = float((ours - theirs).abs().max()) / scale
        found.append(ActivationDifference(what, largest, tolerances[what], layer, number))

    def observe(view: LayerView) -> None:
        attention = view.all_attention()
        if attention is not None and view.layer in truth.attention:
            differ("attention", attention[0], truth.attention[view.layer], view.layer)
        differ("residual", view.residual[0], truth.residual[view.layer], view.layer)
        last[:] = [view.residual[0]]

    model.stream(batch, {"attention"}, observe)
    differ("logits", model.readout(last[0]), truth.logits)
    return found


@dataclass(frozen=True, slots=True)
class PlainActivations:
    """What a model without hooks of TransformerLens computes for one prompt.

    Attributes:
        residual: The residual stream [keys, width] after each layer; of layer -1 before the first.
        attention: Attention weights [heads, keys, keys] of the layers that have any.
        logits: Logits [keys, vocab].
    """

    residual: dict[int, Tensor]
    attention: dict[int, Tensor]
    logits: Tensor


def plain_activations(plain: Any, blocks: str, ids: Tensor) -> PlainActivations:
    """Run a plain model and keep what its own blocks give and what its attention modules return.

    transformers' own lists (``hidden_states``, ``attentions``) leave out layers of some families, and hold
    the last one after the norm, so layers cannot be counted in them.

    Args:
        plain: The model of transformers, with eager attention.
        blocks: Name of the list of its blocks.
        ids: Token ids [1, keys].
    """
    residual: dict[int, Tensor] = {}
    attention: dict[int, Tensor] = {}
    n = ids.shape[1]

    def weights(layer: int) -> Callable[..., None]:
        def keep(_module: Any, _inputs: Any, out: Any) -> None:
            for part in out[1:] if isinstance(out, tuple) else ():
                # sinks may stand in a column of their own behind the keys
                if isinstance(part, Tensor) and part.ndim == 4 and part.shape[2] == n <= part.shape[3]:
                    attention[layer] = part[0, ..., :n]

        return keep

    def after(layer: int) -> Callable[..., None]:
        return lambda _m, _i, out: residual.__setitem__(
            layer, (out if isinstance(out, Tensor) else out[0])[0]
        )

    def before(_module: Any, args: Any, named: Any) -> None:
        residual[-1] = (args[0] if args else named["hidden_states"])[0]

    with ExitStack() as hooks, torch.inference_mode():
        layers = list(plain.get_submodule(blocks))
        hooks.enter_context(layers[0].register_forward_pre_hook(before, with_kwargs=True))
        for index, layer in enumerate(layers):
            for module in layer.modules():
                if module is not layer:
                    hooks.enter_context(module.register_forward_hook(weights(index)))
            hooks.enter_context(layer.register_forward_hook(after(index)))
        logits = plain(input_ids=ids, output_attentions=True, use_cache=False).logits[0]
    return PlainActivations(residual, attention, logits)
