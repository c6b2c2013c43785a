"""Choose transformers' class for a model type, and refuse what cannot be traced before weights are read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from elimtool.errors import ElimError
from elimtool.model.quiet import quiet


def auto_class(name: str, config: Any) -> Any:
    """Choose transformers' class to load a model with; refuse others before reading weights.

    A shell around a vision tower is loaded whole and read as text. Remote code is checked later.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    if getattr(config, "auto_map", None):
        return AutoModelForCausalLM
    if config.is_encoder_decoder:
        raise _not_a_decoder(name, kind, "an encoder-decoder, whose decoder also reads what an encoder gives")
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise _not_a_decoder(name, kind, "an encoder, which fills masked tokens in from both sides")
    known = {
        AutoModelForCausalLM: auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind),
        AutoModelForImageTextToText: auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind),
    }
    found = {loader: architecture for loader, architecture in known.items() if architecture}
    if not found:
        raise _not_a_decoder(name, kind, "not a language model that continues a text from left to right")
    supported = supported_architectures()
    usable = {loader: one for loader, one in found.items() if one in supported}
    if not usable:
        check_supported(name, next(iter(found.values())))
    stored = getattr(config, "architectures", None) or ()
    return next((loader for loader, one in usable.items() if one in stored), next(iter(usable)))


def _not_a_decoder(name: str, kind: str, what: str) -> ElimError:
    return ElimError(
        f"{name}: a model of type {kind} is {what}",
        "elimtool traces causal language models, such as GPT-2, Llama or Qwen",
    )


def supported_architectures() -> dict[str, Any]:
    """Return TransformerLens' adapters by class name of transformers."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    return dict(SUPPORTED_ARCHITECTURES)


def runnable_types() -> list[str]:
    """List the model types (``model_type`` of config.json) that elimtool can load, in alphabetical order."""
    from transformers.models.auto import modeling_auto as auto

    supported = supported_architectures()
    masked = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = {kind for kind, one in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if one in supported}
    shells = {
        kind for kind, one in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.items() if one in supported
    }
    return sorted((causal - set(masked)) | (shells - {"florence2", "t5gemma2"}))


def unsupported_types() -> list[str]:
    """List transformers' types of causal language models that TransformerLens has no hooks for."""
    from transformers.models.auto import modeling_auto as auto

    supported, masked = supported_architectures(), auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    lacking = {kind for kind, one in causal.items() if one not in supported and kind not in masked}
    return sorted(lacking - set(runnable_types()))


def check_supported(name: str, architecture: str) -> None:
    """Refuse architectures that TransformerLens has no hooks for.

    Raises:
        ElimError: TransformerLens does not support ``architecture``, a class name of transformers.
    """
    if architecture not in supported_architectures():
        raise ElimError(
            f"{name}: TransformerLens does not support the architecture {architecture}",
            f"elimtool needs its hooks; it has them for {', '.join(runnable_types())}",
        )


@contextmanager
def as_text(architecture: str) -> Iterator[None]:
    """While open, do not ask for packages that an architecture needs only to prepare images.

    What the model itself needs, transformers has imported when it loaded the weights.
    """
    adapter = supported_architectures()[architecture]
    asked = adapter.required_libraries
    adapter.required_libraries = []
    try:
        yield
    finally:
        adapter.required_libraries = asked
