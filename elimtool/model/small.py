"""Make a small model of random weights in memory, for tests that need some model and no download."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from elimtool.model.model import Model
from elimtool.model.wrapping import wrap


@cache
def small_model() -> Model:
    """Return a Llama of three layers, two heads and random weights; every byte is a token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=256, max_position_embeddings=128, initializer_range=0.4, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = LlamaForCausalLM(config).eval()
    return wrap(made, _byte_tokenizer(), name="small random model")


def _byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)
