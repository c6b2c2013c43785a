"""Minimal pairs as they are asked: the difference of the targets is that of the whole sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import elimtool
from elimtool.prompts.prompt import Prompt
from elimtool.suites.read import open_prompts


def test_the_difference_of_targets_is_that_of_sentences(llama: Any, llama_directory: Path) -> None:
    """Against plain transformers, which reads both sentences from their start."""
    file, _ = open_prompts("minimal_pairs")
    with file:
        prompts = [one.prompt for one in file.records() if isinstance(one.prompt, Prompt)][:80:10]
        names = {prompt.design.tuple_id for prompt in prompts}
        prompts = [
            one.prompt
            for one in file.records()
            if isinstance(one.prompt, Prompt) and one.prompt.design.tuple_id in names
        ]
    options = elimtool.TraceOptions(tables=("survival",), samplers=("hf",), target_space="exact")
    rows = elimtool.trace(llama, prompts, options=options).table("survival").drop_duplicates("prompt_id")
    joint = dict(zip(rows["prompt_id"], rows["target_logprob"], strict=True))
    plain = AutoModelForCausalLM.from_pretrained(llama_directory, dtype=torch.float32)
    whole = {}
    for prompt in prompts:
        ids = torch.tensor([llama.tokenizer.encode(f"{prompt.text}{prompt.targets[0]}").ids])
        with torch.inference_mode():
            logits = plain(ids).logits
        logprobs = logits[0, :-1].double().log_softmax(-1)
        whole[prompt.id] = float(logprobs.gather(1, ids[0, 1:, None]).sum())
    for name in names:
        difference = joint[f"{name}/good"] - joint[f"{name}/bad"]
        assert difference == pytest.approx(whole[f"{name}/good"] - whole[f"{name}/bad"], abs=1e-4)
    assert len(names) == 8 and len(prompts) == 16
