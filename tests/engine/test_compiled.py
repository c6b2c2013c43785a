"""Jobs that are large enough take compiled loops, and get the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from elimtool import Prompt, TraceOptions, trace
from elimtool.model.loading import load_model
from elimtool.numerics import kernels
from tests.engine.tables import tables
from tests.families import save

PROMPTS = ["The capital of France is", "a", "Three more words and a full stop."]


def test_only_large_jobs_on_long_rows_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.usable(kernels.VOCABULARY)
    assert not kernels.usable(kernels.VOCABULARY - 1)
    assert kernels.worth(kernels.VOCABULARY, kernels.DISTRIBUTIONS)
    assert not kernels.worth(kernels.VOCABULARY, kernels.DISTRIBUTIONS - 1)
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)  # numba is not installed
    assert not kernels.usable(kernels.VOCABULARY)


def test_a_run_counts_its_distributions(tmp_path: Path, tokenizer: Any) -> None:
    model = load_model(str(save("llama", tmp_path, tokenizer, vocab_size=kernels.VOCABULARY)))
    rows = -(-kernels.DISTRIBUTIONS // (model.n_layers + 1))
    options = TraceOptions(position="all", tables=("prompts",))
    prompts = [Prompt(text="z" * 50, id=str(number)) for number in range(rows // 50)]
    assert sum(len(model.encode(one).token_ids) for one in prompts) == rows
    assert trace(model, prompts, options=options).manifest.config["compiled"] is True
    prompts[0] = Prompt(text="z" * 49)
    assert trace(model, prompts, options=options).manifest.config["compiled"] is False


@pytest.mark.parametrize("position", ["last", "all"])
def test_all_tables_are_the_same(llama: Any, position: Any) -> None:
    options = TraceOptions(position=position)
    same(tables(llama, PROMPTS, options, compiled=True), tables(llama, PROMPTS, options))


def test_chunks_that_take_each_others_memory_change_nothing(llama: Any) -> None:
    options = TraceOptions(position="all")
    whole = tables(llama, PROMPTS, options, compiled=True)
    five_rows = 5 * (llama.n_layers + 1) * llama.vocab * 4
    same(tables(llama, PROMPTS, options, compiled=True, readout_bytes=five_rows), whole)


def same(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    assert set(found) == set(expected)
    for name, other in expected.items():
        one = found[name]
        assert list(one.columns) == list(other.columns)
        for column in one:
            left, right = one[column].to_numpy(), other[column].to_numpy()
            if np.issubdtype(left.dtype, np.floating):
                np.testing.assert_allclose(left, right, atol=2e-6, rtol=2e-5, err_msg=f"{name}.{column}")
            else:
                assert [str(value) for value in left] == [str(value) for value in right], f"{name}.{column}"
