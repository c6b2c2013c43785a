"""A pass makes the host wait for the device a fixed number of times, and gives the processor's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from elimtool import TraceOptions
from elimtool.engine.forward import run_batch
from elimtool.engine.session import Session
from elimtool.model.loading import load_model
from elimtool.prompts.prompt import Prompt
from tests.accelerator import put, waits
from tests.families import save

pytestmark = pytest.mark.slow  # every operation on the device goes through Python

MOST = 40
"""Most times that the host may wait in one pass."""

WRITTEN = "The capital of France is Paris and the capital of Spain is"
CHAINS = ("hf:top_k=20", "penalties=1.2,top_n_sigma=1,xtc=0.1,typical_p=0.9,min_p=0.01,temperature=0.7")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    """Makes a model of some layers, on the processor or on the device."""

    @cache
    def model(layers: int, there: bool) -> Any:
        path = save("llama", Path(tmp_path_factory.mktemp("llama")), tokenizer, num_hidden_layers=layers)
        loaded = load_model(str(path))
        if there:
            put(loaded.bridge)
        return loaded

    return model


def ran(model: Any, options: TraceOptions, prompts: int = 2) -> tuple[Mapping[str, pa.Table], dict[str, int]]:
    """The tables of one pass, and the waits in it; what a model finds out once is found out before."""
    session = Session(model, options)
    some = [
        Prompt(text=WRITTEN[: 20 + number], id=str(number), targets=(" Paris", " the"), foils=(" Rome",))
        for number in range(prompts)
    ]
    encoded = [one for one in model.encode_all(some, options.position) if not isinstance(one, Exception)]
    assert len(encoded) == prompts
    session.prepare(encoded)
    settings = session.settings_for(encoded[0])
    run_batch(model, encoded[:1], settings, session.lens)
    assert model.packs
    with waits() as counted:
        tables = run_batch(model, encoded, settings, session.lens)
    return tables, dict(counted)


def test_the_host_waits_as_often_whatever_prompts_layers_and_stages(made: Any) -> None:
    _, few = ran(made(2, True), TraceOptions(lens="raw", samplers=("min_p=0.1",)))
    options = TraceOptions(lens="raw", samplers=CHAINS)
    there, many = ran(made(5, True), options, prompts=6)
    assert few == many
    assert 0 < sum(few.values()) <= MOST, few
    _near(there, ran(made(5, False), options, prompts=6)[0])


def test_all_positions_take_as_few_waits_and_give_the_processor_s_numbers(made: Any) -> None:
    options = TraceOptions(lens="raw", samplers=CHAINS, position="all")
    there, counted = ran(made(2, True), options)
    here, none = ran(made(2, False), options)
    assert not none
    assert 0 < sum(counted.values()) <= MOST, counted
    _near(there, here)


def _near(found: Mapping[str, pa.Table], expected: Mapping[str, pa.Table]) -> None:
    """Ranks and counts are equal; float32 sums in another order differ by their rounding."""
    assert set(found) == set(expected)
    for name, table in expected.items():
        assert found[name].schema == table.schema
        for column in table.column_names:
            mine, other = (one[column].to_pandas() for one in (found[name], table))
            told = f"{name}.{column}"
            if other.dtype.kind == "f":
                np.testing.assert_allclose(mine, other, rtol=1e-4, atol=2e-5, err_msg=told)
            else:
                assert mine.astype(str).tolist() == other.astype(str).tolist(), told
