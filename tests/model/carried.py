"""What attention adds to the stream in plain Hugging Face models, read by hooks of our own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

PROJECTIONS = ("o_proj", "out_proj", "dense", "c_proj", "resid_out")


def attention_of(block: Any) -> Any | None:
    """The attention module of a block; ``None`` in layers without."""
    for module in block.modules():
        named = "Attention" in type(module).__name__ and any(hasattr(module, one) for one in PROJECTIONS)
        if (hasattr(module, "num_key_value_groups") or named) and projection_of(module) is not None:
            return module
    return None


def projection_of(attention: Any) -> Any | None:
    """The output projection of an attention module."""
    return next((getattr(attention, name) for name in PROJECTIONS if hasattr(attention, name)), None)


def norm_behind(block: Any) -> Any | None:
    """The norm between attention's output and the stream, in the families that have one."""
    if hasattr(block, "post_self_attn_layernorm"):
        return block.post_self_attn_layernorm
    sandwich = hasattr(block, "pre_feedforward_layernorm") or hasattr(block, "pre_mlp_layernorm")
    if hasattr(block, "post_attention_layernorm") and (sandwich or not hasattr(block, "input_layernorm")):
        return block.post_attention_layernorm
    return None


def updates(plain: Any, block_names: str, ids: Tensor) -> dict[int, Tensor]:
    """What each block's attention adds to the stream: {layer: [keys, width]}."""
    multiplier = getattr(plain.config.get_text_config(), "residual_multiplier", None) or 1.0
    found: dict[int, Tensor] = {}
    with ExitStack() as stack:
        for layer, block in enumerate(plain.get_submodule(block_names)):
            attention = attention_of(block)
            if attention is None:
                continue
            module = norm_behind(block) or projection_of(attention)

            def keep(_module: Any, _inputs: Any, out: Tensor, layer: int = layer) -> None:
                found[layer] = multiplier * out.reshape(ids.shape[1], -1)

            stack.enter_context(module.register_forward_hook(keep))
        with torch.inference_mode():
            plain(input_ids=ids, use_cache=False)
    return found


def assert_carried(views: Sequence[Any], truth: dict[int, Tensor], unread: Sequence[str]) -> None:
    """Compare the sums over heads and keys with attention's updates; the layers that are not read say why."""
    seen = set()
    for view in views:
        if view.layer < 0 or view.no_weights:
            continue
        if view.carried is None:
            assert view.unread in unread, view.unread
            continue
        carried = view.carried
        if not bool(carried.rebuilds(slice(None), view.attention).all()):
            assert "not rebuilt" in unread
            seen.add("not rebuilt")
            continue
        parts = view.attention.transpose(1, 2)[..., None] * carried.each(
            slice(None), view.attention.shape[-1]
        )
        whole = torch.einsum("bphks,hds->bpd", parts.double(), carried.map.double())
        ours = whole * carried.scale[..., None] + carried.constant
        scale = float(truth[view.layer].abs().max())
        torch.testing.assert_close(ours[0].float(), truth[view.layer], atol=1e-5 * scale, rtol=0)
        middle = carried.middle
        if middle is not None:
            torch.testing.assert_close(
                middle[0], carried.before[0] + truth[view.layer], atol=1e-5 * scale, rtol=1e-5
            )
    assert seen == {"not rebuilt"}.intersection(unread)
