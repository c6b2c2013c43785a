"""The examples on SmolLM2: they pass whatever the batches and threads, and name the cause of a regression."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool.errors import Exit

pytestmark = [pytest.mark.smollm2, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[3] / "configs" / "checks"


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """``copied(name, (old, new), ...)``: an example with replacements in any of its files."""

    def copy(name: str, *changes: tuple[str, str]) -> Path:
        folder = tmp_path / "checks"
        shutil.copytree(EXAMPLES, folder)
        for old, new in changes:
            holding = [path for path in folder.glob("*.*") if old in path.read_text()]
            assert holding, f"nothing to replace: {old}"
            for path in holding:
                path.write_text(path.read_text().replace(old, new))
        return folder / name

    return copy


def told(report: Any) -> str:
    assert report.exit_code == Exit.REGRESSION, report.summary
    return str(report.summary)


@pytest.mark.parametrize("name", ["capitals.yaml", "chat.yaml", "samplers.yaml"])
def test_examples_pass_in_any_batch_and_with_any_threads(name: str, smollm2: Any) -> None:
    for batch_size, threads in ((1, 1), (8, 2)):
        report = elimtool.run_checks(EXAMPLES / name, model=smollm2, batch_size=batch_size, threads=threads)
        assert report.passed and not report.warnings, report.summary


def test_a_sampler_setting_changed(copied: Callable[..., Path], smollm2: Any) -> None:
    said = told(elimtool.run_checks(copied("samplers.yaml", ("min_p: 0.05", "min_p: 0.3")), model=smollm2))
    assert "production, min_p: " in said and "p=0.05" in said and "p=0.3" in said


def test_heads_ablated(copied: Callable[..., Path], smollm2: Any) -> None:
    change = ("dtype: float32}", 'dtype: float32, ablate: ["23.4 zero", "29.0 zero"]}')
    said = told(elimtool.run_checks(copied("capitals.yaml", change), model=smollm2, only=["capitals-drift"]))
    assert "interventions on the model: none -> ablate 23.4 zero, ablate 29.0 zero" in said


@pytest.fixture
def perturbed(smollm2: Any) -> Iterator[Any]:
    named = {name.replace("._original_component", ""): one for name, one in smollm2.hf.named_parameters()}
    weight = named["model.layers.20.mlp.down_proj.weight"]
    kept = weight.detach().clone()
    noise = torch.randn(kept.shape, generator=torch.Generator().manual_seed(0))
    weight.data.add_(kept.std() * noise)
    yield smollm2
    weight.data.copy_(kept)


def test_weights_perturbed(perturbed: Any) -> None:
    said = told(elimtool.run_checks(EXAMPLES / "capitals.yaml", model=perturbed, only=["capitals-drift"]))
    assert "final_logprob of prompt" in said and "(baseline and tolerance)" in said


def test_a_prompt_edited(copied: Callable[..., Path], smollm2: Any) -> None:
    change = ("The capital of Japan is", "A city in Japan is")
    said = told(elimtool.run_checks(copied("capitals.yaml", change), model=smollm2))
    assert "the prompt's text: 'The capital of Japan is' -> 'A city in Japan is'" in said


def test_the_system_prompt_dropped(copied: Callable[..., Path], smollm2: Any) -> None:
    path = copied("chat.yaml")
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(line for line in lines if "role: system" not in line or "help desk" not in line)
    )
    said = told(elimtool.run_checks(path, model=smollm2))
    assert "retention of prompt 'refund'" in said and "the prompt's text: " in said
    assert "help desk" in said


def test_through_the_installed_entry_point(copied: Callable[..., Path]) -> None:
    path = copied("samplers.yaml", ("top_k: 40", "top_k: 1"))
    done = subprocess.run(
        [sys.executable, "-m", "elimtool", "check", str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "GITHUB_ACTIONS": "true"},
        check=False,
    )
    assert done.returncode == 10
    assert "production, top_k: k=40" in done.stdout
    # before it stands what was under way, where that takes its time
    assert any(line.startswith(f"::error file={path},line=") for line in done.stderr.splitlines())
