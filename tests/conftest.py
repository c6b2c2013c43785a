"""Fixtures shared by all rooms: a byte-level tokenizer, tiny models, and SmolLM2 where a test asks for it."""

from __future__ import annotations

import gc
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

gc.set_threshold(100_000)  # as the command does: imports and models are millions of objects, searched in vain
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)

# started in the background a suite ignores Ctrl-C, and so would the commands that it starts and interrupts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# the same examples on every run and machine, however slow it is
settings.register_profile("elimtool", deadline=None, derandomize=True)
settings.load_profile("elimtool")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin every test and the fixtures that it makes with the same random numbers, whatever ran before."""
    del item
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no worker ends a run alone with a long file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


TEXTS = [
    "The capital of France is Paris. The capital of Germany is Berlin, and the capital of Spain is Madrid.",
    "A token of the text is eliminated when no layer keeps it.",
]


def byte_tokenizer(bos: bool = False) -> Any:
    """A byte-level BPE with a few merges: 256 bytes, 3 specials, merges of a short English text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|start|>", "<|end|>", "<|unknown|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<|start|> $A", pair="<|start|> $A $B", special_tokens=[("<|start|>", 0)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|start|>", eos_token="<|end|>", unk_token="<|unknown|>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
    )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def tiny(tokenizer: Any) -> Any:
    """A model made in memory from TransformerLens' own small blocks: 3 layers, 2 heads, 300 tokens."""
    from transformer_lens.model_bridge.sources import native

    from elimtool.model.model import Model
    from elimtool.model.tokens import Tokenizer

    bridge = native.boot(
        {
            "n_layers": 3,
            "d_model": 16,
            "n_heads": 2,
            "d_head": 8,
            "d_mlp": 32,
            "n_ctx": 128,
            "d_vocab": 300,
            "act_fn": "gelu",
            "seed": 1,
            "normalization_type": "LN",
        }
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in bridge.original_model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return Model(bridge=bridge, tokenizer=Tokenizer(tokenizer), name="tiny")


@pytest.fixture(scope="session")
def llama_directory(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    from tests.families import save

    return save("llama", tmp_path_factory.mktemp("llama"), tokenizer)


@pytest.fixture(scope="session")
def llama(llama_directory: Path) -> Any:
    from elimtool.model.loading import load_model

    return load_model(str(llama_directory))


@pytest.fixture(scope="session")
def random_lens(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ridge lens of random maps and frequencies, for ``llama``."""
    from tests.lenses.fitted import random_lens_for

    path = tmp_path_factory.mktemp("lens") / "random.safetensors"
    random_lens_for(llama).save(path)
    return str(path)


@pytest.fixture(scope="session")
def smollm2() -> Any:
    from elimtool.model.loading import load_model

    return load_model("smollm2")
