"""Merge PEFT adapters (LoRA and its kin) into a model's weights, so that it is traced as a plain model."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.model.placement import Placement
from elimtool.model.store import ADAPTER, ADAPTER_WEIGHTS, combined_sha256

CONFIG = ADAPTER
WEIGHTS = (f"{ADAPTER_WEIGHTS}.safetensors", f"{ADAPTER_WEIGHTS}.bin")

_SCALED = re.compile("^(?P<name>.+)@(?P<scale>[^@/]+)$")
_LAYER = re.compile(r"[.](embed_tokens|wte|word_embeddings|lm_head|embed_in|embed_out)[.]")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that was merged.

    Attributes:
        name: The user's name for it.
        scale: Factor of its change.
        kind: Kind in words, such as ``LORA``, ``LORA with DoRA``.
        sha256: Digest of its configuration and weights.
        directory: Where it is.
    """

    name: str
    directory: Path
    scale: float
    kind: str
    sha256: str

    def plain(self) -> dict[str, Any]:
        """Return the facts for ``run.json``."""
        return {"name": self.name, "scale": self.scale, "kind": self.kind, "sha256": self.sha256}


def parse_adapter(argument: str) -> tuple[str, float]:
    """Read ``DIR`` or ``DIR@SCALE``.

    Raises:
        ElimError: The scale is not a finite number.
    """
    found = _SCALED.match(argument)
    if found is None:
        return argument, 1.0
    try:
        scale = float(found["scale"])
    except ValueError:
        return argument, 1.0  # an @ of the name
    if not -1e6 < scale < 1e6:
        raise ElimError(f"the scale of an adapter must be finite, got '{argument}'", "such as DIR@0.5")
    return found["name"], scale


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter, alone or beside a model."""
    return (directory / CONFIG).is_file()


def base_of(directory: Path) -> str:
    """Name the model that an adapter was made for.

    Raises:
        ElimError: Its configuration cannot be read or names none.
    """
    base = _config(directory).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ElimError(f"{directory / CONFIG} names no base model", "name it with `base`")
    beside = directory / base  # a relative path is from where it was trained, or from the adapter
    return str(beside) if not Path(base).exists() and beside.is_dir() else base


def _config(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ElimError(f"{directory / CONFIG} cannot be read: {error}", "save the adapter again") from error
    if not isinstance(found, dict):
        raise ElimError(f"{directory / CONFIG} is not a JSON object", "save the adapter again")
    return found


def load_merged(
    name: str,
    directory: Path,
    dtype: str,
    trust: bool,
    adapters: Sequence[tuple[str, Path, float]],
    placement: Placement,
) -> tuple[Any, tuple[Adapter, ...]]:
    """Load a Hugging Face model with adapters merged in float32, or in float64 for a float64 model.

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
        ElimError: As ``load_hugging_face`` and ``merge``, or adapters are to be merged into weights that are
            spread or quantised.
    """
    from elimtool.model.checkpoint import load_hugging_face, moved

    if not adapters:
        return load_hugging_face(name, directory, dtype, trust, placement), ()
    if placement.placed:
        raise ElimError(
            f"{name}: an adapter is merged in float32, not into weights that are spread or quantised",
            "merge it with PEFT (merge_and_unload, save_pretrained), then load the merged directory",
        )
    import torch
    from transformers import AutoConfig

    own = AutoConfig.from_pretrained(directory, trust_remote_code=trust, local_files_only=True).dtype
    hf = load_hugging_face(name, directory, "float64" if dtype == "float64" else "float32", trust)
    merged, done = merge(hf, adapters)
    wanted = own or torch.float32 if dtype == "auto" else getattr(torch, dtype)
    for parameter in merged.parameters():  # buffers, such as rotary frequencies, stay as they were made
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(wanted)
    return moved(name, merged, placement.device), done


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
        config = _config(directory)
        hf = _merged(hf, name, directory, scale, config)
        done.append(Adapter(name, directory, scale, _kind(config), _digest(directory)))
    return hf, tuple(done)


def with_adapters(weights_sha256: str, adapters: Sequence[Adapter]) -> str:
    """Return the digest of weights with what was merged into them: digests and scales, in order."""
    if not adapters:
        return weights_sha256
    lines = [weights_sha256, *(f"{one.sha256} {one.scale!r}" for one in adapters)]
    return sha256("\n".join(lines).encode()).hexdigest()


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ElimError("adapters need the package peft", "pip install 'elimtool[adapters]'") from error
    return peft


def _kind(config: dict[str, Any]) -> str:
    more = [word for key, word in (("use_dora", "DoRA"), ("use_rslora", "rsLoRA")) if config.get(key)]
    return " with ".join([str(config.get("peft_type")), *[" and ".join(more)][: len(more)]])


def _digest(directory: Path) -> str:
    files = [directory / CONFIG, *(directory / one for one in WEIGHTS if (directory / one).is_file())]
    return combined_sha256(files[:2])


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
            f"{name}: the model has no place for the adapter's weight {left[0]} and {len(left) - 1} more",
            "the adapter belongs to another model: name its own with `base`",
        )
    if found.missing_keys:
        missing = sorted(found.missing_keys)
        raise ElimError(
            f"{name}: the adapter lacks the weight {missing[0]} and {len(missing) - 1} more",
            "the adapter is incomplete, or belongs to another model: name its own with `base`",
        )


def _rescale(wrapped: Any, scale: float) -> None:
    from peft.tuners.lora import LoraLayer

    for module in wrapped.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(scale)
