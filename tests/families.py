"""Tiny random-weight models of many families, built from transformers' own configuration classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

VOCAB = 300
WINDOW = 6
"""Sliding window of the families that have one: shorter than the test prompts."""

_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}


def _config(name: str, **options: Any) -> Any:
    import transformers

    return getattr(transformers, name)(**options)


FAMILIES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: _config(
        "GPT2Config",
        vocab_size=VOCAB,
        n_embd=32,
        n_layer=4,
        n_head=4,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "gpt_neox": lambda: _config("GPTNeoXConfig", **_SIZES),
    "llama": lambda: _config("LlamaConfig", **_GROUPED),
    "mistral": lambda: _config("MistralConfig", **_GROUPED, sliding_window=WINDOW),
    "qwen2": lambda: _config(
        "Qwen2Config", **_GROUPED, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2
    ),
    "qwen3": lambda: _config("Qwen3Config", **_GROUPED),
    "gemma2": lambda: _config(
        "Gemma2Config",
        **_GROUPED,
        sliding_window=WINDOW,
        final_logit_softcapping=3.0,
        attn_logit_softcapping=2.0,
        query_pre_attn_scalar=8,
    ),
    "gemma3": lambda: _config(
        "Gemma3TextConfig",
        **_GROUPED,
        sliding_window=WINDOW,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    ),
    "phi": lambda: _config("PhiConfig", **_SIZES),
    "olmo2": lambda: _config("Olmo2Config", **_SIZES, num_key_value_heads=2),
    "granite": lambda: _config(
        "GraniteConfig",
        **_SIZES,
        num_key_value_heads=2,
        logits_scaling=4.0,
        embedding_multiplier=6.0,
        residual_multiplier=0.5,
        attention_multiplier=0.2,
    ),
    "cohere": lambda: _config("CohereConfig", **_SIZES, num_key_value_heads=2, logit_scale=0.25),
    "bloom": lambda: _config("BloomConfig", vocab_size=VOCAB, hidden_size=32, n_layer=4, n_head=4),
    "opt": lambda: _config(
        "OPTConfig",
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        ffn_dim=48,
        max_position_embeddings=128,
        word_embed_proj_dim=32,
    ),
    "falcon": lambda: _config(
        "FalconConfig",
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        alibi=False,
    ),
    "stablelm": lambda: _config("StableLmConfig", **_SIZES, num_key_value_heads=2),
    "starcoder2": lambda: _config("Starcoder2Config", **_SIZES, num_key_value_heads=2, sliding_window=WINDOW),
}


def save(
    family: str,
    directory: Path,
    tokenizer: Any,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """Write a random model of a family, its configuration changed if asked, as a Hugging Face directory.

    Weights are drawn larger than usual, so that attention is far from uniform and a wrong mask shows.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(sum(map(ord, family)) + seed)
    config = FAMILIES[family]()
    config.update(changes)
    config.pad_token_id = None
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
        else:
            torch.nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=0.1)
    model.to(dtype).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
