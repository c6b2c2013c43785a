"""Probed rows are read out some at a time, in the memory of those before: no number depends on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elimtool import TraceOptions, engine, kernels, trace

PROMPTS = ["The capital of France is", "a", "Three more words and a full stop. And some more of them."]


@pytest.mark.parametrize("compiled", [False, True])
def test_all_tables_are_the_same(llama: Any, monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    if compiled:
        monkeypatch.setattr(kernels, "VOCABULARY", 1)
        monkeypatch.setattr(kernels, "DISTRIBUTIONS", 1)
    options = TraceOptions(position="all", batch_size=3)
    whole = trace(llama, PROMPTS, options=options)
    monkeypatch.setattr(engine, "READOUT_BYTES", 5 * (llama.n_layers + 1) * llama.vocab * 4)  # five rows
    parts = trace(llama, PROMPTS, options=options)
    assert parts.tables == whole.tables
    for name in whole.tables:
        one, other = parts.arrow(name).to_pandas(), whole.arrow(name).to_pandas()
        for column in one:
            left, right = one[column].to_numpy(), other[column].to_numpy()
            if np.issubdtype(left.dtype, np.floating):
                np.testing.assert_allclose(left, right, atol=2e-6, rtol=2e-5, err_msg=f"{name}.{column}")
            else:
                assert [str(value) for value in left] == [str(value) for value in right], f"{name}.{column}"
