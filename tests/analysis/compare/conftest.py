"""Two runs of the same prompts by two small models, and one by a model of another depth and tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import elimtool
from tests.families import save

PROMPTS = [
    elimtool.Prompt(
        text=f"The capital of {country} is",
        id=country,
        targets=("Paris", "Berlin"),
        foils=("Rome",),
        group=f"group {country[0]}",
        category="even" if len(country) % 2 == 0 else "odd",
        tags=("capital", country[-1]),
    )
    for country in ("France", "Finland", "Spain", "Sweden", "Greece", "Germany")
] + [elimtool.Prompt(text="A token of the text", id="leaders")]

OPTIONS = elimtool.TraceOptions(samplers=("llama.cpp", "hf"), errors="row", lens="raw")


@pytest.fixture(scope="session")
def other_llama(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    """A model of the same make with other weights."""
    return elimtool.load_model(str(save("llama", tmp_path_factory.mktemp("other"), tokenizer, seed=9)))


@pytest.fixture(scope="session")
def run_a(llama: Any) -> Any:
    return elimtool.trace(llama, PROMPTS, options=OPTIONS)


@pytest.fixture(scope="session")
def run_b(other_llama: Any) -> Any:
    """The same by another model, without the first prompt, with one that fails and one of its own."""
    extra = [elimtool.Prompt(text="Its own prompt", id="own")]
    broken = replace(PROMPTS[1], text="too long " * 300)
    return elimtool.trace(other_llama, [broken, *PROMPTS[2:], *extra], options=OPTIONS)


@pytest.fixture
def directories(run_a: Any, run_b: Any, tmp_path: Path) -> tuple[Path, Path]:
    run_a.save(tmp_path / "a")
    run_b.save(tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"
