"""The value that a story names for a stage does keep the target, in the chain written anew with it."""

from __future__ import annotations

import pytest
import torch

from elimtool.analysis.fate import bound
from elimtool.samplers import resolve, with_setting

CHAINS = [
    "llama.cpp:top_p=0.3",
    "llama.cpp:top_k=3,temperature=1.5",
    "llama.cpp:min_p=0.4",
    "hf:top_k=5",
    "vllm:min_p=0.3,top_p=0.6",
    "top_k=20,top_p=0.7,temperature=0.8",
    "temperature=0.7,top_n_sigma=0.5",
    "typical_p=0.4,top_k=9",
]


@pytest.mark.parametrize("spec", CHAINS)
def test_the_stage_keeps_what_it_cut_with_the_value_that_is_named(spec: str) -> None:
    chain = resolve(spec)
    logits = 2 * torch.randn(4, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    targets = logits.topk(30).indices
    ledger, tried = chain.run(logits, targets), 0
    for index, (stage, found) in enumerate(zip(chain.stages, ledger.records, strict=True)):
        for row, place in (found.alive_before & ~found.alive_after).nonzero().tolist()[:12]:
            needs = bound(
                stage.kind,
                stage.params(),
                int(found.rank_before[row, place]),
                float(found.margin[row, place]),
            )
            if needs.value is None:
                continue
            changed = with_setting(spec, stage.name, needs.value)
            assert changed and changed != spec
            again = resolve(changed).run(logits, targets).records[index]
            assert again.alive_after[row, place], (changed, stage.name)
            tried += 1
    assert tried


@pytest.mark.parametrize(
    ("spec", "stage", "value", "text"),
    [
        ("llama.cpp", "top_p", 0.41, "llama.cpp:top_p=0.41"),
        ("llama.cpp:temperature=0.3", "top_k", 74, "llama.cpp:temperature=0.3,top_k=74"),
        ("llama.cpp:typical_p=0.3", "typical", 0.7, "llama.cpp:typical_p=0.7"),
        ("top_k=40,top_p=0.95,temperature=0.8", "top_p", 0.975, "top_k=40,top_p=0.975,temperature=0.8"),
        ("top_k.ties=exact", "top_k", 7, "top_k.ties=exact,top_k=7"),
        ("first.stage=top_k,top_k=4", "first", 7, "first.stage=top_k,top_k=4,first=7"),
        ("greedy", "greedy", 1, ""),
        ("llama.cpp", "no such stage", 1, ""),
        ("llama.cpp", "top_p", 1.7, ""),
    ],
)
def test_only_the_one_setting_changes(spec: str, stage: str, value: float, text: str) -> None:
    assert with_setting(spec, stage, value) == text


def test_a_chain_file_has_no_text_to_change(tmp_path: pytest.TempPathFactory) -> None:
    path = tmp_path / "own.yaml"  # type: ignore[operator]
    path.write_text("stages:\n  - {stage: top_k, k: 4}\n")
    assert with_setting(str(path), "top_k", 9) == ""
