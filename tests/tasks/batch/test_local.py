"""The engine of one machine: what it leaves in the process, and which loops its runs keep to."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.errors import ElimError
from elimtool.model.loading import load_model
from elimtool.numerics import kernels
from elimtool.tasks.batch.local import LocalEngine
from elimtool.tasks.batch.options import BatchOptions
from tests.families import save
from tests.tasks.batch.conftest import QUICK, Batch, write_prompts


@pytest.mark.parametrize("frozen", [False, True])
def test_the_collector_is_left_as_it_was(llama: Any, tmp_path: Path, frozen: bool) -> None:
    gc.unfreeze()
    if frozen:
        gc.freeze()
    before = gc.get_freeze_count()
    engine = LocalEngine(llama, QUICK, BatchOptions())
    try:
        engine.start(tmp_path)
        assert gc.get_freeze_count() > before
        engine.close()
        assert bool(gc.get_freeze_count()) == frozen
    finally:
        gc.unfreeze()


def test_a_run_with_compiled_loops_does_not_go_on_without(
    batch: Batch, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 4)
    directory = save("llama", tmp_path / "model", tokenizer, vocab_size=kernels.VOCABULARY)
    model = load_model(str(directory))
    batch(prompts, tmp_path / "run", model=model)
    assert elimtool.open_run(tmp_path / "run").manifest.config["compiled"] is True
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(ElimError, match="compiled"):
        batch(prompts, tmp_path / "run", model=model)
