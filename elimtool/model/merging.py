"""Merge PEFT adapters (LoRA and its kin) into a model's weights, so that it is traced as a plain model."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.package import PACKAGE
from elimtool.model.adapters import Adapter, config_of
from elimtool.model.memory import out_of_memory
from elimtool.model.placement import Placement

_LAYER = re.compile(r"[.](embed_tokens|wte|word_embeddings|lm_head|embed_in|embed_out)[.]")


def load_merged(
    name: str,
    directory: Path,
    dtype: str,
    trust: bool,
    adapters: Sequence[tuple[str, Path, float]],
    placement: Placement,
) -> tuple[Any, tuple[Adapter, ...]]:
    """Load a Hugging Face model with adapters merged in float32, or in float64 for a float64 model.

    They are merged in the processor's memory, which must hold the whole model. Where weights are spread or
    quantised, the merged ones are written to a temporary directory, which is then loaded so.

    Args:
        name: The user's name for the model.
        directory: Its weights.
        dtype: Number type of the result.
        trust: Run Python code that comes with it.
        adapters: Name, directory and scale of each.
        placement: Where the weights go.

    Returns:
        The model, and what was merged.

    Raises:
        ElimError: As ``load_hugging_face`` and ``merge``.
    """
    from elimtool.model.checkpoint import load_hugging_face, moved

    if not adapters:
        return load_hugging_face(name, directory, dtype, trust, placement), ()
    import torch
    from transformers import AutoConfig

    own = AutoConfig.from_pretrained(directory, trust_remote_code=trust, local_files_only=True).dtype
    hf = load_hugging_face(name, directory, "float64" if dtype == "float64" else "float32", trust)
    merged, done = merge(hf, adapters)
    wanted = own or torch.float32 if dtype == "auto" else getattr(torch, dtype)
    for parameter in merged.parameters():  # buffers, such as rotary frequencies, stay as they were made
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(wanted)
    if not placement.placed:
        return moved(name, merged, placement.device), done
    folder = placement.folder("merged")  # weights on the disk are read from there as long as the model lives
    merged.save_pretrained(folder)
    del hf, merged
    return load_hugging_face(name, Path(folder), dtype, trust, placement), done


def merge(hf: Any, adapters: Sequence[tuple[str, Path, float]]) -> tuple[Any, tuple[Adapter, ...]]:
    """Merge adapters into a model, one after the other, in the model's number type.

    Args:
        hf: The Hugging Face model, in float32 or float64.
        adapters: Name, directory and scale of each.

    Returns:
        The model with the merged weights, and what was merged.

    Raises:
        ElimError: The package peft is missing, or an adapter is damaged, does not fit the model, or is of a
            kind that cannot be merged.
    """
    _peft()
    done = []
    for name, directory, scale in adapters:
        hf = _merged(hf, name, directory, scale, config_of(directory))
        done.append(Adapter.of(name, directory, scale))
    return hf, tuple(done)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ElimError("adapters need the package peft", "pip install 'elimtool[adapters]'") from error
    return peft


def _merged(hf: Any, name: str, directory: Path, scale: float, config: dict[str, Any]) -> Any:
    peft = _peft()
    _refuse_unscalable(name, scale, config)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = peft.PeftConfig.from_pretrained(str(directory))
            if known.is_prompt_learning or known.is_adaption_prompt:
                raise ElimError(
                    f"{name}: an adapter of kind {known.peft_type.value} adds tokens or attention of its own,"
                    " not a change of weights, so it cannot be merged",
                    "elimtool traces adapters that merge, such as LoRA",
                )
            known.inference_mode = True
            weights = peft.load_peft_weights(str(directory), device="cpu")
            _untie(hf, config, weights)
            _resize(hf, weights)
            wrapped = peft.PeftModel(hf, known, autocast_adapter_dtype=False)
            found = wrapped.load_adapter(str(directory), "default", torch_device="cpu")
            _check_fit(name, wrapped, weights, found)
            if scale != 1:
                _rescale(wrapped, scale)
            return wrapped.merge_and_unload(progressbar=False, safe_merge=True).eval()
    except ElimError:
        raise
    except Exception as error:  # peft raises errors of any kind at what it cannot read, fit or merge
        innermost = traceback.extract_tb(error.__traceback__)[-1].filename
        if out_of_memory(error) or PACKAGE in Path(innermost).parents:  # the latter is our own mistake
            raise
        from elimtool.model.checkpoint import reason

        raise ElimError(
            f"{name}: the adapter cannot be merged: {reason(error)}",
            "it may be damaged, of another model, or of a kind without a merge",
        ) from error


def _refuse_unscalable(name: str, scale: float, config: dict[str, Any]) -> None:
    """Refuse a scale where the adapter's change is not a product that it could multiply."""
    if scale == 1:
        return
    replaced = config.get("modules_to_save") or config.get("trainable_token_indices")
    if config.get("peft_type") != "LORA" or replaced:
        what = f"it replaces {replaced}" if replaced else f"its kind is {config.get('peft_type')}"
        raise ElimError(f"{name}: only LoRA updates have a scale, and {what}", "leave the scale out")


def _untie(hf: Any, config: dict[str, Any], weights: dict[str, Any]) -> None:
    """Give a tied unembedding weights of its own where an adapter changes one of the two alone."""
    import torch

    head, embedding = hf.get_output_embeddings(), hf.get_input_embeddings()
    if head is None or head.weight is not embedding.weight or config.get("ensure_weight_tying"):
        return
    names = [*(config.get("modules_to_save") or ()), *(key for key in weights if ".lora_" in key)]
    if any(_LAYER.search(f".{name}.") for name in names):
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone(), requires_grad=False)
        hf.config.get_text_config().tie_word_embeddings = hf.config.tie_word_embeddings = False


def _resize(hf: Any, weights: dict[str, Any]) -> None:
    """Give the model as many embeddings as the adapter brings: its tokenizer may have new tokens."""
    rows = {len(value) for key, value in weights.items() if _LAYER.search(key) and key.endswith(".weight")}
    rows = {count for count in rows if count > hf.get_input_embeddings().weight.shape[0]}
    if rows:
        hf.resize_token_embeddings(max(rows), mean_resizing=False)


def _check_fit(name: str, wrapped: Any, weights: dict[str, Any], found: Any) -> None:
    """Refuse weights without a place, and places without a weight: peft passes over both silently."""
    from peft import get_peft_model_state_dict

    placed = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    known = {*placed, *(key.replace("base_model.model.", "") for key in placed)}
    embeddings = {key for key in weights if _LAYER.search(key) and ".lora_" not in key}
    if left := sorted(key for key in weights if key not in known and key not in embeddings):
        raise ElimError(
            f"{name}: the model has no place for the adapter's weight {left[0]} and {len(left) - 1:,} more",
            "the adapter belongs to another model: name its own with `base`",
        )
    if found.missing_keys:
        missing = sorted(found.missing_keys)
        raise ElimError(
            f"{name}: the adapter lacks the weight {missing[0]} and {len(missing) - 1:,} more",
            "the adapter is incomplete, or belongs to another model: name its own with `base`",
        )


def _rescale(wrapped: Any, scale: float) -> None:
    from peft.tuners.lora import LoraLayer

    for module in wrapped.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(scale)
