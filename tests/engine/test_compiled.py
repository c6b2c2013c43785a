"""Jobs that are large enough take compiled loops, and get the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elimtool import TraceOptions, trace
from elimtool.engine import loop as engine
from elimtool.lenses.raw import RawLens
from elimtool.numerics import kernels
from elimtool.run import Run

PROMPTS = ["The capital of France is", "a", "Three more words and a full stop."]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each readout was asked to take compiled loops."""
    found: list[bool] = []
    plain = engine.shapes
    monkeypatch.setattr(
        engine, "shapes", lambda logits, compiled: found.append(compiled) or plain(logits, compiled)
    )
    return found


def test_only_large_jobs_on_long_rows_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.usable(kernels.VOCABULARY)
    assert not kernels.usable(kernels.VOCABULARY - 1)
    assert kernels.worth(kernels.VOCABULARY, kernels.DISTRIBUTIONS)
    assert not kernels.worth(kernels.VOCABULARY, kernels.DISTRIBUTIONS - 1)
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert not kernels.usable(kernels.VOCABULARY)


@pytest.mark.parametrize("position", ["last", "all"])
def test_all_tables_are_the_same(
    llama: Any, monkeypatch: pytest.MonkeyPatch, asked: list[bool], position: Any
) -> None:
    options = TraceOptions(position=position, batch_size=2)
    plain = trace(llama, PROMPTS, options=options)
    rows = len(plain.arrow("lens_layers"))
    monkeypatch.setattr(kernels, "VOCABULARY", 1)
    monkeypatch.setattr(kernels, "DISTRIBUTIONS", rows + 1)
    trace(llama, PROMPTS, options=options)
    assert not any(asked)  # one distribution too few
    monkeypatch.setattr(kernels, "DISTRIBUTIONS", rows)
    asked.clear()
    compiled = trace(llama, PROMPTS, options=options)
    assert asked
    assert all(asked)
    same(compiled, plain)


def test_chunks_that_take_each_others_memory_change_nothing(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "VOCABULARY", 1)
    monkeypatch.setattr(kernels, "DISTRIBUTIONS", 1)
    options = TraceOptions(position="all")
    whole = trace(llama, PROMPTS, options=options)
    monkeypatch.setattr(engine, "READOUT_BYTES", 5 * (llama.n_layers + 1) * llama.vocab * 4)  # five rows
    same(trace(llama, PROMPTS, options=options), whole)


def same(found: Run, expected: Run) -> None:
    assert found.tables == expected.tables
    for name in expected.tables:
        one, other = found.arrow(name).to_pandas(), expected.arrow(name).to_pandas()
        assert list(one.columns) == list(other.columns)
        for column in one:
            left, right = one[column].to_numpy(), other[column].to_numpy()
            if np.issubdtype(left.dtype, np.floating):
                np.testing.assert_allclose(left, right, atol=2e-6, rtol=2e-5, err_msg=f"{name}.{column}")
            else:
                assert [str(value) for value in left] == [str(value) for value in right], f"{name}.{column}"


def test_settings_of_a_small_job_ask_for_none(llama: Any) -> None:
    assert not engine.settings_for(llama, TraceOptions(), RawLens()).compiled
