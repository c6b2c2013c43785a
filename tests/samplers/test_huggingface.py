"""Survivors against the processors of Hugging Face transformers, which are run here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation import logits_process as hf

from elimtool.samplers import Chain, History, resolve
from tests.samplers.rows import KINDS, alone, rows
from tests.samplers.ways import as_on_a_device

STAGE = {stage.kind: stage for stage in resolve("hf").stages}
PROCESSORS = {
    "top_k": (hf.TopKLogitsWarper, [1, 3, 7, 40]),
    "top_p": (hf.TopPLogitsWarper, [0.0, 0.1, 0.5, 0.9, 0.95, 0.999]),
    "min_p": (hf.MinPLogitsWarper, [0.01, 0.05, 0.5, 1.0]),
    "typical": (hf.TypicalLogitsWarper, [0.1, 0.2, 0.5, 0.9, 0.95]),
    # powers of four: Hugging Face rounds eta's epsilon to float32
    "epsilon": (hf.EpsilonLogitsWarper, [2**-4, 2**-8, 0.2, 1e-4]),
    "eta": (hf.EtaLogitsWarper, [2**-4, 2**-10, 0.25]),
    "top_h": (hf.TopHLogitsWarper, [0.1, 0.4, 0.9, 1.0]),
}
NONE = torch.zeros((1, 0), dtype=torch.int64)


def survivors(chain: Chain, x: torch.Tensor, histories: list[History] | None = None) -> torch.Tensor:
    ledger = chain.run(x, NONE.expand(x.shape[0], 0), histories)
    return ledger.kept


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [8, 50, 120, 1000])
def test_each_stage(kind: str, vocab: int) -> None:
    x = rows(kind, 60, vocab, seed=vocab)
    for name, (processor, values) in PROCESSORS.items():
        for value in values:
            expected = processor(value)(None, x.clone()) > -torch.inf
            stage = replace(STAGE[name], **{STAGE[name].main: value})
            found = survivors(alone(stage), x)
            assert torch.equal(found, expected), (name, value)
            if vocab == 50:
                there = as_on_a_device(alone(stage), x, NONE.expand(60, 0))
                assert torch.equal(there.kept, expected), (name, value)


def huggingface_chain(**settings: float) -> list:
    """The processors that ``generate`` builds, in its order."""
    config = GenerationConfig(do_sample=True, **settings)
    made = []
    if settings.get("repetition_penalty"):
        made.append(hf.RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if settings.get("temperature"):
        made.append(hf.TemperatureLogitsWarper(config.temperature))
    table = [
        ("top_h", hf.TopHLogitsWarper),
        ("top_k", hf.TopKLogitsWarper),
        ("top_p", hf.TopPLogitsWarper),
        ("min_p", hf.MinPLogitsWarper),
        ("typical_p", hf.TypicalLogitsWarper),
        ("epsilon_cutoff", hf.EpsilonLogitsWarper),
        ("eta_cutoff", hf.EtaLogitsWarper),
    ]
    return made + [cls(settings[name]) for name, cls in table if name in settings]


CHAINS = [
    {"top_k": 50},
    {"temperature": 0.7, "top_k": 40, "top_p": 0.9},
    {"temperature": 1.3, "top_p": 0.95, "min_p": 0.05},
    {"temperature": 0.8, "top_h": 0.6, "top_k": 20, "typical_p": 0.9},
    {"top_k": 30, "typical_p": 0.5, "epsilon_cutoff": 2**-8, "eta_cutoff": 2**-6},
    {
        "repetition_penalty": 1.3,
        "temperature": 0.9,
        "top_k": 25,
        "top_p": 0.8,
        "min_p": 0.02,
        "typical_p": 0.95,
    },
]


@pytest.mark.parametrize("settings", CHAINS, ids=",".join)
def test_whole_chains_on_ten_thousand_rows(settings: dict[str, float]) -> None:
    spec = "hf:top_k=0," + ",".join(f"{k}={v}" for k, v in settings.items() if k != "top_k")
    chain = (
        resolve(spec.rstrip(",")) if len(settings) > 1 or "top_k" not in settings else resolve("hf:top_k=0")
    )
    if "top_k" in settings:
        stages = tuple(replace(s, k=settings["top_k"]) if s.kind == "top_k" else s for s in chain.stages)
        chain = replace(chain, stages=stages)
    seen = 0
    for seed, (kind, vocab) in enumerate([(k, v) for k in KINDS for v in (8, 33, 200)]):
        x = rows(kind, 500, vocab, seed)
        ids = torch.randint(0, vocab, (500, 6), generator=torch.Generator().manual_seed(seed))
        expected = x.clone()
        for processor in huggingface_chain(**settings):
            expected = processor(ids, expected)
        ledger = chain.run(x, NONE.expand(500, 0), [History(tuple(row)) for row in ids.tolist()])
        assert torch.equal(ledger.kept, expected > -torch.inf), (kind, vocab)
        finite = expected > -torch.inf
        assert torch.allclose(ledger.final[finite], expected[finite], rtol=1e-12, atol=1e-12)
        if vocab == 33 and chain.acts_on_device:
            past = [History(tuple(row)) for row in ids[:50].tolist()]
            there = as_on_a_device(chain, x[:50], NONE.expand(50, 0), past)
            assert torch.equal(there.kept, expected[:50] > -torch.inf), kind
        seen += 500
    assert seen >= 10_000


@pytest.mark.parametrize("vocab", [32_000, 262_144])
def test_large_vocabularies(vocab: int) -> None:
    chain = resolve("hf:temperature=0.8,top_p=0.9,min_p=0.001,typical=0.95")
    for kind in ("normal", "ties", "holes and ties"):
        x = rows(kind, 2, vocab)
        expected = x
        for processor in huggingface_chain(temperature=0.8, top_k=50, top_p=0.9, min_p=0.001, typical_p=0.95):
            expected = processor(None, expected)
        assert torch.equal(survivors(chain, x), expected > -torch.inf)
        for name in ("top_p", "typical", "top_h"):
            processor, values = PROCESSORS[name]
            stage = replace(STAGE[name], **{STAGE[name].main: values[3]})
            assert torch.equal(survivors(alone(stage), x), processor(values[3])(None, x.clone()) > -torch.inf)


def test_float32_as_transformers_computes() -> None:
    """In float32 only tokens within rounding of an edge may differ."""
    chain = replace(resolve("hf:temperature=0.9,top_p=0.9,min_p=0.01"), precision="float32")
    different = 0
    for seed in range(4):
        x = rows("normal", 500, 300, seed).float()
        expected = x
        for processor in huggingface_chain(temperature=0.9, top_k=50, top_p=0.9, min_p=0.01):
            expected = processor(None, expected)
        different += int((survivors(chain, x) != (expected > -torch.inf)).sum())
    assert different <= 2


def test_min_keep_rescues_as_huggingface_does() -> None:
    x = rows("normal", 200, 60, 5)
    cases = {
        "top_p": hf.TopPLogitsWarper(0.2, min_tokens_to_keep=3),
        "min_p": hf.MinPLogitsWarper(0.9, min_tokens_to_keep=3),
        "typical": hf.TypicalLogitsWarper(0.1, min_tokens_to_keep=3),
        "epsilon": hf.EpsilonLogitsWarper(0.5, min_tokens_to_keep=3),
        "eta": hf.EtaLogitsWarper(0.25, min_tokens_to_keep=3),
        "top_k": hf.TopKLogitsWarper(1, min_tokens_to_keep=3),
    }
    values = {"top_p": 0.2, "min_p": 0.9, "typical": 0.1, "epsilon": 0.5, "eta": 0.25, "top_k": 1}
    for name, processor in cases.items():
        stage = replace(STAGE[name], **{STAGE[name].main: values[name], "min_keep": 3})
        assert torch.equal(survivors(alone(stage), x), processor(None, x.clone()) > -torch.inf), name
