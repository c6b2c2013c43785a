"""Put a Hugging Face model under TransformerLens' hooks."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from elimtool.errors import ElimError
from elimtool.model.architectures import as_text, check_supported
from elimtool.model.checkpoint import unusable
from elimtool.model.memory import out_of_memory
from elimtool.model.placement import device_of
from elimtool.model.quiet import quiet


def bridge_of(name: str, hf: Any) -> Any:
    """Put a Hugging Face model under TransformerLens' hooks, in place.

    The bridge does not get the tokenizer: its set-up would change padding and BOS behaviour.
    """
    architecture = type(hf).__name__
    check_supported(name, architecture)
    with quiet(), warnings.catch_warnings(), as_text(architecture):
        warnings.simplefilter("ignore")
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        where = str(device_of(hf, torch.device("cpu")))
        try:
            bridge = build_bridge_from_module(
                hf, architecture, hf_config=hf.config, model_name=name, device=where
            )
        except Exception as error:  # code of a family may raise anything
            if out_of_memory(error):
                raise
            raise unusable(name, architecture, error) from error
    if not hasattr(bridge, "blocks"):
        raise ElimError(
            f"{name}: the architecture {architecture} is not one stack of blocks",
            "elimtool reads one residual stream from block to block, and this model has none such",
        )
    return bridge
