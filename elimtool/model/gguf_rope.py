"""Carry a GGUF file's scaling of rotary frequencies over to a Hugging Face configuration.

Llama 3.1 and its kin store a divisor for each frequency (tensor ``rope_freqs``), long-context Phi-3 two,
one for short and one for long texts. Transformers' scaling by lists of divisors, ``longrope``, takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elimtool.model.gguf_tokenizer import field

ONE, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"


def scaled(reader: Any, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the ``rope_parameters`` of a configuration with the file's scaling.

    Args:
        reader: The open file.
        config: The configuration without it.

    Returns:
        The entry; ``None`` where the file has no divisors, or the configuration no place for them.
    """
    plain = config.get("rope_parameters")
    if not isinstance(plain, Mapping) or plain.get("rope_type", "default") not in ("default", "longrope"):
        return None
    divisors = {
        one.name: [float(value) for value in one.data.reshape(-1)]
        for one in reader.tensors
        if one.name in (ONE, SHORT, LONG)
    }
    short = divisors.get(ONE) or divisors.get(SHORT)
    long = divisors.get(ONE) or divisors.get(LONG)
    if short is None or long is None:
        return None
    architecture = field(reader, "general.architecture")
    known = field(reader, f"{architecture}.context_length", config.get("max_position_embeddings"))
    attention = field(reader, f"{architecture}.rope.scaling.attn_factor")
    return {
        **{key: value for key, value in plain.items() if key in ("rope_theta", "partial_rotary_factor")},
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "original_max_position_embeddings": field(
            reader, f"{architecture}.rope.scaling.original_context_length", known
        ),
        "factor": 1.0,
        "attention_factor": 1.0 if attention is None else attention,
    }
