"""SmolLM2 on a GPU: the same numbers as on the processor, Hugging Face's own in half precision, reruns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elimtool
from elimtool import Prompt, TraceOptions
from elimtool.engine.loop import Passes
from elimtool.engine.session import Session
from elimtool.lenses.corpus import shipped
from elimtool.lenses.fit import fit_lens
from elimtool.model.loading import load_model
from elimtool.model.verify import verify
from elimtool.model.view import Encoded
from elimtool.samplers import resolve
from tests.engine.test_smollm2 import _near

pytestmark = [
    pytest.mark.smollm2,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PROMPTS = [
    "The capital of France is",
    "Z\u00fcrich",
    "The river ran slowly past the old mill, and the children threw stones into the deep water below. " * 6,
]
FOLLOWED = {"targets": [" Paris", " the"], "foils": [" Rome"]}
COMPARED = ("lens", "lens_layers", "attention", "attention_layers", "survival")


@pytest.fixture(scope="module")
def on_gpu() -> Any:
    return load_model("smollm2", device="cuda")


@pytest.fixture(scope="module")
def on_cpu() -> Any:
    return load_model("smollm2", device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_matches_hugging_face_on_the_same_device(dtype: str) -> None:
    found = verify(load_model("smollm2", device="cuda", dtype=dtype))
    assert all(one.passed for one in found), found


def test_float32_gives_the_processor_s_numbers(on_cpu: Any, on_gpu: Any) -> None:
    options = TraceOptions(lens="raw", heads=False)
    here, there = (elimtool.trace(model, PROMPTS, **FOLLOWED, options=options) for model in (on_cpu, on_gpu))
    assert there.manifest.device.startswith("cuda")
    for name in COMPARED:
        _near(there.table(name), here.table(name), name)


@pytest.mark.parametrize("position", ["last", "all"])
def test_reruns_are_equal_to_the_bit(on_gpu: Any, position: Any) -> None:
    options = TraceOptions(lens="raw", position=position)
    runs = [elimtool.trace(on_gpu, PROMPTS[:2], **FOLLOWED, options=options) for _ in range(2)]
    for name in runs[0].tables:
        assert runs[0].arrow(name).equals(runs[1].arrow(name)), name


def test_a_pass_asked_for_ahead_changes_nothing(on_gpu: Any) -> None:
    session = Session(on_gpu, TraceOptions(lens="raw", heads=False))
    encoded = [
        one for one in session.encode_all([Prompt(text=one) for one in PROMPTS]) if isinstance(one, Encoded)
    ]
    found = []
    for ahead in (False, None):
        passes = Passes(session, ahead=ahead)
        passes.run(encoded, 1)
        found.append(passes.tables([one.prompt_id for one in encoded]))
    assert passes.ahead
    for name, table in found[0].items():
        assert table.equals(found[1][name]), name


def test_batched_equals_single(on_gpu: Any) -> None:
    options = TraceOptions(lens="raw", heads=False)
    together = elimtool.trace(on_gpu, PROMPTS, **FOLLOWED, options=options)
    for prompt in PROMPTS:
        alone = elimtool.trace(on_gpu, prompt, **FOLLOWED, options=options)
        for name in COMPARED:
            whole = together.table(name)
            part = whole[whole["prompt_id"] == alone.prompts["prompt_id"][0]].reset_index(drop=True)
            _near(part, alone.table(name), name)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_masses_and_probabilities_are_of_float32_whatever_the_weights_are(dtype: str) -> None:
    run = elimtool.trace(
        load_model("smollm2", device="cuda", dtype=dtype), PROMPTS[:2], options=TraceOptions(lens="raw")
    )  # one span a token: they share the attention out
    whole = run.table("attention").groupby(["prompt_id", "layer"])["mass"].sum()
    assert ((whole - 1).abs() < 1e-5).all()
    assert run.table("lens").query("layer == 29")["prob"].between(0, 1).all()
    assert run.manifest.dtype == dtype


def test_a_walk_on_the_gpu_writes_what_greedy_decoding_does(on_gpu: Any) -> None:
    options = TraceOptions(lens="raw", samplers=("top_k=1",), generate=8)
    run = elimtool.trace(on_gpu, PROMPTS[0], options=options)
    inputs = on_gpu.tokenizer.backend(PROMPTS[0], return_tensors="pt").to("cuda")
    plain = on_gpu.hf.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs.input_ids.shape[1] :]
    assert run.table("walk")["token_id"].tolist() == plain.tolist()


def test_a_lens_is_fitted_and_read_on_the_gpu(on_gpu: Any, on_cpu: Any, tmp_path: Path) -> None:
    lens = fit_lens(on_gpu, shipped("fit"), tokens=6000)
    file = tmp_path / "lens.safetensors"
    lens.save(file)
    options = TraceOptions(lens=str(file))
    here, there = (
        elimtool.trace(model, PROMPTS, **FOLLOWED, options=options).table("lens_layers")
        for model in (on_cpu, on_gpu)
    )
    np.testing.assert_allclose(there["entropy"], here["entropy"], atol=1e-3)
    np.testing.assert_allclose(there["kl_to_final"], here["kl_to_final"], rtol=2e-3, atol=1e-3)


def test_chains_run_on_logits_of_a_gpu() -> None:
    logits = torch.randn(2, 1000, device="cuda")
    ledger = resolve("llama.cpp").run(logits, logits.topk(3).indices)
    same = resolve("llama.cpp").run(logits.cpu(), logits.cpu().topk(3).indices)
    assert torch.equal(ledger.probs(), same.probs())
