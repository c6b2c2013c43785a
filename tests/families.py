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


_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}

MIXTURES: dict[str, Callable[[], Any]] = {
    "mixtral": lambda: _config("MixtralConfig", **_GROUPED, num_local_experts=6, num_experts_per_tok=2),
    "qwen2_moe": lambda: _config(
        "Qwen2MoeConfig", **_GROUPED, **_EXPERTS, num_experts=6, shared_expert_intermediate_size=40
    ),
    "qwen3_moe": lambda: _config(
        "Qwen3MoeConfig", **_GROUPED, **_EXPERTS, num_experts=6, norm_topk_prob=True, mlp_only_layers=[1]
    ),
    "olmoe": lambda: _config(
        "OlmoeConfig", **_SIZES, num_key_value_heads=2, num_experts=6, num_experts_per_tok=2
    ),
    "gpt_oss": lambda: _config(
        "GptOssConfig",
        **_GROUPED,
        num_local_experts=6,
        num_experts_per_tok=2,
        sliding_window=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "deepseek_v3": lambda: _config(
        "DeepseekV3Config",
        **_SIZES,
        **_EXPERTS,
        num_key_value_heads=4,
        n_routed_experts=6,
        n_shared_experts=1,
        n_group=3,
        topk_group=2,
        routed_scaling_factor=2.5,
        norm_topk_prob=True,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=4,
        v_head_dim=8,
    ),
}
"""Families with mixtures of experts; some layers of Qwen3-MoE and DeepSeek-V3 are dense."""

FAMILIES: dict[str, Callable[[], Any]] = {
    **MIXTURES,
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
    "gemma3_images": lambda: _config(
        "Gemma3Config",
        text_config={
            **_GROUPED,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
        mm_tokens_per_image=4,
        image_token_index=VOCAB - 1,
        boi_token_index=VOCAB - 2,
        eoi_token_index=VOCAB - 3,
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


def dense_layers(family: str) -> set[int]:
    """Return the layers of a family that have one MLP, not a mixture of experts."""
    return {"qwen3_moe": {1}, "deepseek_v3": {0}}.get(family, set()) if family in MIXTURES else set(range(4))


RECURRENT = ("A_log", "dt_bias", "time_decay", "time_first", ".D", "recurrent_param")
"""Parameters of state spaces that keep their own start: with others the states explode."""


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
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from tests.more_families import IMAGES, MORE

    torch.manual_seed(sum(map(ord, family)) + seed)
    config = {**FAMILIES, **MORE}[family]()
    config.update(changes)
    if family != "modernbert-decoder":  # which cannot be without
        config.pad_token_id = None
    loader = AutoModelForImageTextToText if family in IMAGES else AutoModelForCausalLM
    model = loader.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith(RECURRENT):
            continue
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
        else:
            torch.nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=0.1)
    model.to(dtype).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
