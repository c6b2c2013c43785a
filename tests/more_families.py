"""Tiny models of more families: latent attention, hybrids and state spaces, shells around vision towers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

_SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "head_dim": 4,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_DELTA = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
_QWEN_VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 8,
}
_QWEN_SHELL = {
    "image_token_id": 290,
    "video_token_id": 291,
    "vision_start_token_id": 292,
    "vision_end_token_id": 293,
}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_LINEAR = ["linear_attention", "full_attention", "linear_attention", "full_attention"]


def _config(name: str, **options: Any) -> Any:
    import transformers

    return getattr(transformers, name)(**options)


MORE: dict[str, Callable[[], Any]] = {
    "afmoe": lambda: _config(
        "AfmoeConfig", **_GROUPED, **_EXPERTS, num_experts=4, sliding_window=6, num_shared_experts=1
    ),
    "apertus": lambda: _config("ApertusConfig", **_GROUPED),
    "arcee": lambda: _config("ArceeConfig", **_GROUPED),
    "bamba": lambda: _config(
        "BambaConfig", **_SIZES, **_MAMBA2, num_key_value_heads=2, attn_layer_indices=[1, 3]
    ),
    "bitnet": lambda: _config("BitNetConfig", **_GROUPED),
    "codegen": lambda: _config(
        "CodeGenConfig",
        vocab_size=300,
        n_embd=32,
        n_layer=4,
        n_head=4,
        n_positions=128,
        n_ctx=128,
        rotary_dim=4,
    ),
    "cohere2": lambda: _config("Cohere2Config", **_GROUPED, sliding_window=6),
    "deepseek_v2": lambda: _config(
        "DeepseekV2Config",
        **{**_SIZES, **_LATENT},
        **_EXPERTS,
        n_routed_experts=4,
        n_shared_experts=1,
        first_k_dense_replace=1,
    ),
    "deepseek_v4": lambda: _config(
        "DeepseekV4Config",
        **{**_GROUPED, "num_key_value_heads": 1},
        **_EXPERTS,
        n_routed_experts=4,
        q_lora_rank=16,
        o_groups=2,
        o_lora_rank=8,
        index_n_heads=2,
        index_head_dim=8,
        index_topk=4,
        hc_mult=2,
    ),
    "ernie4_5": lambda: _config("Ernie4_5Config", **_GROUPED),
    "ernie4_5_moe": lambda: _config(
        "Ernie4_5_MoeConfig",
        **_GROUPED,
        moe_intermediate_size=16,
        moe_k=2,
        moe_num_experts=4,
        moe_num_shared_experts=1,
    ),
    "exaone4": lambda: _config(
        "Exaone4Config", **_GROUPED, sliding_window=6, layer_types=["sliding_attention", "full_attention"] * 2
    ),
    "falcon_h1": lambda: _config("FalconH1Config", **_GROUPED, **_MAMBA2, mamba_d_ssm=64),
    "falcon_mamba": lambda: _config(
        "FalconMambaConfig", vocab_size=300, hidden_size=32, num_hidden_layers=4, state_size=8
    ),
    "flex_olmo": lambda: _config("FlexOlmoConfig", **_GROUPED, num_experts=4, num_experts_per_tok=2),
    "gemma": lambda: _config("GemmaConfig", **_GROUPED),
    "gemma3n": lambda: _config(
        "Gemma3nConfig",
        text_config={
            **_GROUPED,
            "vocab_size_per_layer_input": 290,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "num_kv_shared_layers": 0,
            "altup_num_inputs": 2,
            "sliding_window": 6,
            "intermediate_size": [48] * 4,
            "activation_sparsity_pattern": [0.0] * 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        vision_config={"hidden_size": 16, "vocab_size": 5, "vocab_offset": 290},
        audio_config={
            "hidden_size": 16,
            "vocab_size": 5,
            "vocab_offset": 295,
            "conf_num_hidden_layers": 1,
            "conf_num_attention_heads": 2,
            "sscp_conv_channel_size": (4, 4),
        },
    ),
    "gemma4": lambda: _config(
        "Gemma4Config",
        text_config={
            **_GROUPED,
            "global_head_dim": 8,
            "vocab_size_per_layer_input": 300,
            "hidden_size_per_layer_input": 8,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "position_embedding_size": 16,
        },
        image_token_id=290,
        video_token_id=291,
        audio_token_id=292,
    ),
    "gemma4_text": lambda: _config(
        "Gemma4TextConfig",
        **_GROUPED,
        global_head_dim=8,
        vocab_size_per_layer_input=300,
        hidden_size_per_layer_input=8,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"] * 2,
        final_logit_softcapping=3.0,
    ),
    "glm": lambda: _config("GlmConfig", **_GROUPED),
    "glm4": lambda: _config("Glm4Config", **_GROUPED),
    "glm4_moe": lambda: _config("Glm4MoeConfig", **_GROUPED, **_EXPERTS, n_routed_experts=4),
    "glm4_moe_lite": lambda: _config(
        "Glm4MoeLiteConfig", **{**_SIZES, **_LATENT}, **_EXPERTS, n_routed_experts=4
    ),
    "glm_moe_dsa": lambda: _config(
        "GlmMoeDsaConfig",
        **{**_SIZES, **_LATENT},
        **_EXPERTS,
        n_routed_experts=4,
        index_topk=64,
        index_head_dim=8,
        index_n_heads=2,
    ),
    "gpt_bigcode": lambda: _config(
        "GPTBigCodeConfig", vocab_size=300, n_embd=32, n_layer=4, n_head=4, n_positions=128
    ),
    "gpt_neo": lambda: _config(
        "GPTNeoConfig",
        vocab_size=300,
        hidden_size=32,
        num_layers=4,
        num_heads=4,
        attention_types=[[["global", "local"], 2]],
        window_size=6,
        max_position_embeddings=128,
    ),
    "gptj": lambda: _config(
        "GPTJConfig", vocab_size=300, n_embd=32, n_layer=4, n_head=4, n_positions=128, rotary_dim=4
    ),
    "granitemoe": lambda: _config(
        "GraniteMoeConfig",
        **_GROUPED,
        attention_multiplier=0.2,
        num_local_experts=4,
        num_experts_per_tok=2,
        residual_multiplier=0.5,
        logits_scaling=4.0,
    ),
    "granitemoehybrid": lambda: _config(
        "GraniteMoeHybridConfig",
        **_SIZES,
        **_MAMBA2,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=16,
        layer_types=["linear_attention", "full_attention"] * 2,
    ),
    "hrm_text": lambda: _config("HrmTextConfig", **_SIZES, head_dim=8),
    "hunyuan_v1_dense": lambda: _config("HunYuanDenseV1Config", **_GROUPED),
    "jais2": lambda: _config("Jais2Config", **_GROUPED),
    "jamba": lambda: _config(
        "JambaConfig",
        **_SIZES,
        num_key_value_heads=2,
        num_experts=2,
        num_experts_per_tok=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=8,
        mamba_dt_rank=4,
        use_mamba_kernels=False,
    ),
    "jetmoe": lambda: _config(
        "JetMoeConfig",
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=4,
        num_key_value_heads=2,
        kv_channels=8,
        intermediate_size=48,
        num_local_experts=4,
    ),
    "laguna": lambda: _config(
        "LagunaConfig",
        **_GROUPED,
        **_EXPERTS,
        num_experts=4,
        shared_expert_intermediate_size=16,
        sliding_window=6,
    ),
    "lfm2": lambda: _config(
        "Lfm2Config",
        **{k: v for k, v in _GROUPED.items() if k != "head_dim"},
        layer_types=["conv", "full_attention"] * 2,
        block_multiple_of=8,
    ),
    "lfm2_moe": lambda: _config(
        "Lfm2MoeConfig",
        **{k: v for k, v in _GROUPED.items() if k != "head_dim"},
        **_EXPERTS,
        num_experts=4,
        layer_types=["conv", "full_attention"] * 2,
        num_dense_layers=1,
    ),
    "llama4_text": lambda: _config(
        "Llama4TextConfig",
        **_GROUPED,
        intermediate_size_mlp=48,
        num_local_experts=4,
        num_experts_per_tok=1,
        attention_chunk_size=6,
        interleave_moe_layer_step=2,
    ),
    "llama4": lambda: _config(
        "Llama4Config",
        text_config={
            **_GROUPED,
            "intermediate_size_mlp": 48,
            "num_local_experts": 4,
            "attention_chunk_size": 6,
        },
        vision_config={
            **_VISION,
            "vision_output_dim": 16,
            "projector_input_dim": 16,
            "projector_output_dim": 16,
        },
        image_token_index=290,
        boi_token_index=291,
        eoi_token_index=292,
    ),
    "mamba": lambda: _config(
        "MambaConfig", vocab_size=300, hidden_size=32, num_hidden_layers=4, state_size=8
    ),
    "mamba2": lambda: _config(
        "Mamba2Config",
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=4,
        num_heads=8,
        head_dim=8,
        state_size=8,
        n_groups=2,
        chunk_size=8,
    ),
    "minimax_m2": lambda: _config("MiniMaxM2Config", **_GROUPED, num_local_experts=4, num_experts_per_tok=2),
    "ministral3": lambda: _config("Ministral3Config", **_GROUPED),
    "modernbert-decoder": lambda: _config(
        "ModernBertDecoderConfig",
        **_SIZES,
        local_attention=12,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=1,
        cls_token_id=0,
        sep_token_id=1,
    ),
    "mpt": lambda: _config("MptConfig", d_model=32, n_heads=4, n_layers=4, max_seq_len=128, vocab_size=300),
    "nanochat": lambda: _config("NanoChatConfig", **_GROUPED),
    "nemotron": lambda: _config("NemotronConfig", **_GROUPED),
    "nemotron_h": lambda: _config(
        "NemotronHConfig",
        **{k: v for k, v in _GROUPED.items() if k != "num_hidden_layers"},
        layers_block_type=["mamba", "attention", "mlp", "attention"],
        ssm_state_size=8,
        mamba_num_heads=8,
        mamba_head_dim=8,
        n_groups=2,
        chunk_size=8,
        n_routed_experts=4,
        moe_intermediate_size=16,
        moe_shared_expert_intermediate_size=16,
    ),
    "olmo": lambda: _config("OlmoConfig", **_SIZES, num_key_value_heads=2),
    "olmo3": lambda: _config("Olmo3Config", **_SIZES, num_key_value_heads=2, sliding_window=6),
    "olmo_hybrid": lambda: _config(
        "OlmoHybridConfig", **_SIZES, **_DELTA, num_key_value_heads=2, layer_types=_LINEAR, pad_token_id=0
    ),
    "openai-gpt": lambda: _config(
        "OpenAIGPTConfig", vocab_size=300, n_embd=32, n_layer=4, n_head=4, n_positions=128
    ),
    "phi3": lambda: _config("Phi3Config", **_SIZES, num_key_value_heads=2, sliding_window=6),
    "qwen3_5": lambda: _config(
        "Qwen3_5Config",
        text_config={
            **_GROUPED,
            **_DELTA,
            "layer_types": _LINEAR,
            "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0},
        },
        vision_config={**_QWEN_VISION, "num_position_embeddings": 16},
        **_QWEN_SHELL,
    ),
    "qwen3_5_text": lambda: _config(
        "Qwen3_5TextConfig",
        **_GROUPED,
        **_DELTA,
        layer_types=_LINEAR,
        rope_parameters={**_MROPE, "partial_rotary_factor": 1.0},
    ),
    "qwen3_5_moe_text": lambda: _config(
        "Qwen3_5MoeTextConfig",
        **_GROUPED,
        **_DELTA,
        **_EXPERTS,
        num_experts=4,
        shared_expert_intermediate_size=16,
        layer_types=_LINEAR,
        rope_parameters={**_MROPE, "partial_rotary_factor": 1.0},
    ),
    "qwen3_next": lambda: _config(
        "Qwen3NextConfig",
        **_GROUPED,
        **_DELTA,
        **_EXPERTS,
        num_experts=4,
        shared_expert_intermediate_size=16,
        layer_types=_LINEAR,
    ),
    "recurrent_gemma": lambda: _config(
        "RecurrentGemmaConfig",
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        attention_window_size=6,
        block_types=["recurrent", "attention"],
    ),
    "rwkv": lambda: _config(
        "RwkvConfig", vocab_size=300, context_length=128, hidden_size=32, num_hidden_layers=4
    ),
    "seed_oss": lambda: _config("SeedOssConfig", **_GROUPED),
    "smollm3": lambda: _config(
        "SmolLM3Config", **{k: v for k, v in _GROUPED.items() if k != "head_dim"}, no_rope_layer_interval=2
    ),
    "vaultgemma": lambda: _config(
        "VaultGemmaConfig",
        **_GROUPED,
        sliding_window=6,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
    "xglm": lambda: _config(
        "XGLMConfig",
        vocab_size=300,
        d_model=32,
        ffn_dim=48,
        num_layers=4,
        attention_heads=4,
        max_position_embeddings=128,
    ),
    "youtu": lambda: _config("YoutuConfig", **{**_SIZES, **_LATENT}),
    "zamba2": lambda: _config(
        "Zamba2Config",
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=4,
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=48,
        mamba_d_state=8,
        n_mamba_heads=8,
        chunk_size=8,
        adapter_rank=4,
        max_position_embeddings=128,
        use_mamba_kernels=False,
    ),
    "glm4v": lambda: _config(
        "Glm4vConfig",
        text_config={
            **_SIZES,
            "num_key_value_heads": 2,
            "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0},
        },
        vision_config={**_QWEN_VISION, "image_size": 16},
        **_QWEN_SHELL,
    ),
    "idefics3": lambda: _config(
        "Idefics3Config",
        text_config={**_SIZES, "model_type": "llama", "num_key_value_heads": 2},
        vision_config=_VISION,
        image_token_id=290,
    ),
    "llava": lambda: _config(
        "LlavaConfig",
        text_config={**_SIZES, "model_type": "llama", "num_key_value_heads": 2},
        vision_config={**_VISION, "model_type": "clip_vision_model", "projection_dim": 16},
        image_token_index=290,
    ),
    "llava_next": lambda: _config(
        "LlavaNextConfig",
        text_config={**_SIZES, "model_type": "mistral", "num_key_value_heads": 2},
        vision_config={**_VISION, "model_type": "clip_vision_model", "projection_dim": 16},
        image_token_index=290,
    ),
    "llava_onevision": lambda: _config(
        "LlavaOnevisionConfig",
        text_config={**_SIZES, "model_type": "qwen2", "num_key_value_heads": 2},
        vision_config={**_VISION, "model_type": "siglip_vision_model"},
        image_token_index=290,
        video_token_index=291,
    ),
    "mistral3": lambda: _config(
        "Mistral3Config",
        text_config={**_GROUPED, "model_type": "mistral"},
        vision_config={**_VISION, "model_type": "pixtral", "head_dim": 8},
        image_token_index=290,
    ),
    "qwen2_5_vl": lambda: _config(
        "Qwen2_5_VLConfig",
        text_config={**_SIZES, "num_key_value_heads": 2, "rope_parameters": _MROPE},
        vision_config={**_QWEN_VISION, "fullatt_block_indexes": [0]},
        **_QWEN_SHELL,
    ),
    "qwen3_vl": lambda: _config(
        "Qwen3VLConfig",
        text_config={**_GROUPED, "rope_parameters": _MROPE},
        vision_config={**_QWEN_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **_QWEN_SHELL,
    ),
    "qwen3_vl_moe": lambda: _config(
        "Qwen3VLMoeConfig",
        text_config={**_GROUPED, **_EXPERTS, "num_experts": 4, "rope_parameters": _MROPE},
        vision_config={**_QWEN_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **_QWEN_SHELL,
    ),
}

IMAGES = (
    "glm4v",
    "idefics3",
    "llama4",
    "llava",
    "llava_next",
    "llava_onevision",
    "mistral3",
    "qwen2_5_vl",
    "qwen3_5",
    "qwen3_vl",
    "qwen3_vl_moe",
)
"""Shells around a vision tower, read as text."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is not measured in a family, and what is said instead; empty where it is.

    Attributes:
        attention: Layers with attention weights, ``None`` for all; the others have ``no_weights``.
        no_weights: Reasons in the table ``attention_layers``.
        undecomposed: Why logits are not attributed to heads and MLPs: reasons in the table ``mechanisms``.
        uncarried: Why what heads carry from each key is not known: reasons, or ``not rebuilt``.
        heads: Why heads cannot be ablated.
        mlp: Why MLPs cannot be ablated.
        refused: Why the family cannot be traced at all.
    """

    attention: tuple[int, ...] | None = None
    no_weights: tuple[str, ...] = ()
    undecomposed: tuple[str, ...] = ()
    uncarried: tuple[str, ...] = ()
    heads: str = ""
    mlp: str = ""
    refused: str = ""


_NONE = ("this block has no attention weights",)
_HIDDEN = "TransformerLens does not show this block's attention weights"
_UNSEEN = ("the output of attention or MLP cannot be seen",)
_NO_MLP = "does not show its MLP"
_NO_HEADS = "does not show its heads"
_HALF = Limits(attention=(1, 3), no_weights=_NONE, undecomposed=_UNSEEN)
_MAMBA = Limits(attention=(), no_weights=_NONE, undecomposed=_UNSEEN, heads=_NO_HEADS, mlp=_NO_MLP)
_NO_VALUES = "the values that attention weighs are not shown while hooks are on it"
_MORE_PARTS = Limits(undecomposed=("attention and MLP do not add up to the block's update",))

LIMITS: dict[str, Limits] = {
    "bamba": _HALF,
    "bitnet": Limits(uncarried=("not rebuilt",)),
    "deepseek_v4": Limits(refused="does not pass on one vector for each token"),
    "falcon_h1": _MORE_PARTS,
    "falcon_mamba": _MAMBA,
    "gemma3n": Limits(refused="pip install timm"),
    "gemma4": _MORE_PARTS,
    "gemma4_text": _MORE_PARTS,
    "glm_moe_dsa": Limits(uncarried=(_NO_VALUES,)),
    "granitemoehybrid": replace(_HALF, mlp=_NO_MLP, uncarried=_UNSEEN),
    "hrm_text": Limits(refused="is not one stack of blocks"),
    "jamba": _HALF,
    "jetmoe": Limits(undecomposed=_UNSEEN, uncarried=_UNSEEN, heads=_NO_HEADS),
    "lfm2": _HALF,
    "lfm2_moe": _HALF,
    "mamba": _MAMBA,
    "mamba2": _MAMBA,
    "modernbert-decoder": Limits(refused="the directions of the tokens miss the logits"),
    "mpt": Limits(refused="attends to keys that its mask hides"),
    "nemotron_h": replace(_MAMBA, no_weights=(*_NONE, _HIDDEN)),
    "olmo_hybrid": _HALF,
    "openai-gpt": Limits(refused="the last residual, read out, differs from the logits"),
    "qwen3_5": _HALF,
    "qwen3_5_moe_text": _HALF,
    "qwen3_5_text": _HALF,
    "qwen3_next": _HALF,
    "recurrent_gemma": replace(_MAMBA, no_weights=(*_NONE, _HIDDEN)),
    "zamba2": replace(_MAMBA, no_weights=(*_NONE, _HIDDEN)),
    "rwkv": _MAMBA,
}
"""Of the families in ``MORE``; a family that is not named has none."""

EXPERTS: dict[str, str] = {
    **dict.fromkeys(
        (
            "afmoe",
            "deepseek_v2",
            "deepseek_v3",
            "ernie4_5_moe",
            "flex_olmo",
            "glm4_moe",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "gpt_oss",
            "granitemoe",
            "granitemoehybrid",
            "jamba",
            "laguna",
            "lfm2_moe",
            "llama4",
            "llama4_text",
            "minimax_m2",
            "mixtral",
            "olmoe",
            "qwen2_moe",
            "qwen3_5_moe_text",
            "qwen3_moe",
            "qwen3_next",
            "qwen3_vl_moe",
        ),
        "",
    ),
    "jetmoe": "JetMoeParallelExperts",
}
"""Families with mixtures of experts, and why tables of experts are refused; empty where they are filled."""

ALIKE = {
    "cohere2": "cohere",
    "ernie4_5": "llama",
    "exaone4": "olmo2",
    "falcon_mamba": "mamba",
    "gemma4_text": "gemma4",
    "glm": "glm4",
    "glm4_moe_lite": "deepseek_v3",
    "glm_moe_dsa": "deepseek_v3",
    "jais2": "nemotron",
    "llava_next": "llava",
    "llava_onevision": "llava",
    "ministral3": "mistral",
    "mistral3": "llava",
    "olmo3": "olmo2",
    "qwen3_5_moe_text": "qwen3_5_text",
    "qwen3_vl_moe": "qwen3_vl",
    "seed_oss": "llama",
    "vaultgemma": "gemma2",
    "youtu": "deepseek_v2",
}
"""Families with the hooks of another one, with which attribution, ablation and knockout are tested."""

WHOLE = sorted(name for name in MORE if name not in ALIKE and not LIMITS.get(name, Limits()).refused)
"""Families with which everything is tested."""
