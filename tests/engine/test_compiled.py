"""Jobs that are large enough take compiled loops, and get the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elimtool import Prompt, TraceOptions
from elimtool.engine.session import Session
from elimtool.numerics import kernels
from elimtool.run import Run
from tests.engine.sessions import trace_with

PROMPTS = ["The capital of France is", "a", "Three more words and a full stop."]


def test_only_large_jobs_on_long_rows_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.usable(kernels.VOCABULARY)
    assert not kernels.usable(kernels.VOCABULARY - 1)
    assert kernels.worth(kernels.VOCABULARY, kernels.DISTRIBUTIONS)
    assert not kernels.worth(kernels.VOCABULARY, kernels.DISTRIBUTIONS - 1)
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)  # numba is not installed
    assert not kernels.usable(kernels.VOCABULARY)


@pytest.mark.smollm2
def test_a_session_decides_by_the_size_of_the_job(smollm2: Any) -> None:
    options = TraceOptions(position="all", lens="raw")
    session = Session(smollm2, options)
    rows = -(-kernels.DISTRIBUTIONS // (smollm2.n_layers + 1))
    long = session.encode(Prompt(text=" a" * rows))
    for some, large in (([long], True), ([session.encode(Prompt(text="a few words"))], False)):
        session.prepare(some)
        assert session.settings.compiled is large
    decided = Session(smollm2, options, compiled=False)
    decided.prepare([long])
    assert not decided.settings.compiled


@pytest.mark.parametrize("position", ["last", "all"])
def test_all_tables_are_the_same(llama: Any, position: Any) -> None:
    options = TraceOptions(position=position, batch_size=2)
    seen: list[bool] = []

    class Watching:
        """A metric that notes how it is asked to work."""

        needs, tables = frozenset(), ()
        observe = read = lambda self, view: None
        finish = dict

        def __init__(self, batch: Any, settings: Any) -> None:
            seen.append(settings.compiled)

    plain = trace_with(llama, PROMPTS, options, extra=[Watching], compiled=False)
    compiled = trace_with(llama, PROMPTS, options, extra=[Watching], compiled=True)
    half = len(seen) // 2
    assert half and not any(seen[:half]) and all(seen[half:])
    same(compiled, plain)


def test_chunks_that_take_each_others_memory_change_nothing(llama: Any) -> None:
    options = TraceOptions(position="all")
    whole = trace_with(llama, PROMPTS, options, compiled=True)
    five_rows = 5 * (llama.n_layers + 1) * llama.vocab * 4
    same(trace_with(llama, PROMPTS, options, compiled=True, readout_bytes=five_rows), whole)


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
