"""Every family on a GPU: Hugging Face's own activations there, and the tables that the processor gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool import TraceOptions
from elimtool.model.loading import load_model
from elimtool.model.verify import verify
from tests.engine.test_engine import TEXTS, assert_same
from tests.families import FAMILIES, save

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

EXACT = ("lens", "lens_layers", "attention", "attention_layers", "attention_heads", "components", "survival")


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def directory(request: pytest.FixtureRequest, tmp_path_factory: Any, tokenizer: Any) -> Path:
    return save(request.param, tmp_path_factory.mktemp(request.param), tokenizer)


def test_it_matches_hugging_face_on_the_same_device(directory: Path) -> None:
    found = verify(load_model(str(directory), device="cuda"))
    assert all(one.passed for one in found), found


@pytest.mark.parametrize("position", ["last", "all"])
def test_tables_are_the_processor_s(directory: Path, position: Any) -> None:
    options = TraceOptions(lens="raw", heads=True, position=position)
    here, there = (
        elimtool.trace(
            load_model(str(directory), device=device), TEXTS, targets=[" of"], foils=[" and"], options=options
        )
        for device in ("cpu", "cuda")
    )
    assert there.manifest.device.startswith("cuda")
    assert set(here.tables) == set(there.tables)
    for name in EXACT:
        if name in here.tables:
            assert_same(there.table(name), here.table(name), name)
