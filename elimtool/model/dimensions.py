"""Read off a loaded model what it consists of: layers, heads, sizes, number type, device."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.model.attention_reader import why_no_weights
from elimtool.model.experts import experts_of, unread_experts
from elimtool.model.head import text_config
from elimtool.model.interventions.edits import Site
from elimtool.model.interventions.install import hook_point, shows_weights
from elimtool.model.placement import device_of


class Dimensions:
    """What a model consists of, read off its ``bridge`` without a pass."""

    bridge: Any

    @property
    def hf(self) -> Any:
        """The wrapped model, whose submodules the bridge has replaced by hooked ones."""
        return self.bridge.original_model

    @cached_property
    def n_layers(self) -> int:
        """Number of transformer blocks."""
        return len(self.bridge.blocks)

    @property
    def block_names(self) -> str:
        """Name of the wrapped model's list of blocks, such as ``model.layers``."""
        return str(self.bridge.adapter.component_mapping["blocks"].name)

    @cached_property
    def attending(self) -> tuple[int, ...]:
        """Layers that show attention weights; blocks such as state spaces and linear attention have none."""
        blocks = enumerate(self.bridge.blocks)
        return tuple(layer for layer, block in blocks if shows_weights(block))

    def without_weights(self) -> dict[tuple[int, ...], str]:
        """Return the layers that show no attention weights, together where the reason is the same."""
        others = [layer for layer in range(self.n_layers) if layer not in self.attending]
        why = {layer: why_no_weights(self.bridge.blocks[layer]) for layer in others}
        return {
            tuple(layer for layer in others if why[layer] == reason): reason
            for reason in dict.fromkeys(why.values())
        }

    @property
    def n_heads(self) -> int:
        """Number of query heads."""
        return int(self.bridge.cfg.n_heads)

    @property
    def n_groups(self) -> int:
        """Number of groups of query heads that share keys and values; as many as heads where none share."""
        return int(getattr(self.bridge.cfg, "n_key_value_heads", None) or self.n_heads)

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        return int(self.bridge.cfg.d_model)

    @cached_property
    def _sample(self) -> Tensor:
        """A tensor with the model's dtype and device."""
        parameter: Tensor = next(iter(self.hf.parameters()))
        return torch.empty(0, dtype=parameter.dtype, device=device_of(self.hf, parameter.device))

    @property
    def device(self) -> torch.device:
        """Device of the weights; of the token ids, where the weights are on several."""
        return self._sample.device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the weights."""
        return self._sample.dtype

    @property
    def config(self) -> Any:
        """The configuration of the text model, as transformers has it; ``None`` where there is none."""
        return text_config(self.hf)

    @cached_property
    def context(self) -> int | None:
        """The longest input in tokens, ``None`` where the model's configuration states none."""
        for name in ("max_position_embeddings", "n_positions", "max_sequence_length"):
            if value := getattr(self.config, name, None):
                return int(value)
        context = getattr(self.bridge.cfg, "n_ctx", None)
        return int(context) if context else None

    @cached_property
    def has_experts(self) -> bool:
        """Whether any block has a mixture of experts that can be read."""
        return any(experts_of(block) is not None for block in self.bridge.blocks)

    @property
    def unread_experts(self) -> str | None:
        """Class of experts that elimtool cannot read; ``None`` where there are none, or all can be read."""
        return None if self.has_experts else next(filter(None, map(unread_experts, self.bridge.blocks)), None)

    def shows(self, site: Site) -> bool:
        """Tell whether the architecture shows a site's value."""
        try:
            hook_point(self.bridge, site)
        except ElimError:
            return False
        return True
