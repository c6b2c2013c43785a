"""Passes make the host wait for the device a fixed number of times, and give the processor's numbers.

A pass waits as often whatever its prompts, layers and stages. What takes passes of its own for every prompt
(a text that is written, targets followed through a chain, other endings) waits a fixed number of times in
each of them. Text that is written token by token waits once a token: the sampler that draws the next one is
on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from elimtool import Ablate, Knockout, Prompt, Scale, SpanRequest, TraceOptions
from elimtool.engine.loop import measure_together
from elimtool.engine.session import Session
from elimtool.model.loading import load_model
from elimtool.run.selection import CHANGES, GRAMMARS, MIXED, ON_REQUEST, TRACED, WRITTEN
from tests.accelerator import put, waits
from tests.families import save
from tests.lenses.fitted import random_lens_for

pytestmark = pytest.mark.slow  # every operation on the device goes through Python

MOST = 40
"""Most times that the host may wait in one pass."""

TEXT = "The capital of France is Paris and the capital of Spain is"
CHAINS = ("hf:top_k=20", "penalties=1.2,top_n_sigma=1,xtc=0.1,typical_p=0.9,min_p=0.01,temperature=0.7")
ONE_STAGE = ("min_p=0.1",)
OF_PASSES = tuple(
    set(TRACED) - ON_REQUEST.keys() - WRITTEN - GRAMMARS - CHANGES - MIXED - {"walk", "walk_stages"}
)
"""Tables that a pass fills and no option of its own asks for, those that only their names fill too."""

Tables = Mapping[str, pa.Table]
Ran = Callable[..., tuple[Tables, dict[str, int]]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Ran:
    """Measures some prompts together, and counts the waits; what a model finds out once is found before."""

    @cache
    def model(family: str, layers: int, there: bool) -> Any:
        path = save(family, Path(tmp_path_factory.mktemp(family)), tokenizer, num_hidden_layers=layers)
        loaded = load_model(str(path))
        loaded.hashes()
        if there:
            put(loaded.bridge)
        return loaded

    @cache
    def lens(family: str, layers: int) -> str:
        path = tmp_path_factory.mktemp("lens") / "random.safetensors"
        random_lens_for(model(family, layers, False)).save(path)
        return str(path)

    def run(
        layers: int, prompts: int, there: bool = True, family: str = "llama", **more: Any
    ) -> tuple[Tables, dict[str, int]]:
        fitted = more.pop("fitted", False)
        lenses = {"lens": lens(family, layers) if fitted else "raw"}
        compiled, at_once = more.pop("compiled", None), more.pop("rows_at_once", None)
        targets, foils = more.pop("targets", (" Paris", " the")), more.pop("foils", (" Rome",))
        session = Session(model(family, layers, there), TraceOptions(**lenses, **more), compiled=compiled)
        if at_once is not None:
            held = at_once * (layers + 1) * session.model.vocab * 4
            session.settings = replace(session.settings, readout_bytes=held)
        some = [
            Prompt(
                text=TEXT[: 14 + number],
                id=str(number),
                targets=targets,
                foils=foils,
                spans=(SpanRequest("what", "capital"),),
            )
            for number in range(prompts)
        ]
        encoded = [one for one in session.encode_all(some) if not isinstance(one, Exception)]
        session.prepare(encoded)
        measure_together(session, encoded[:1])
        assert session.model.packs or family != "llama"
        with waits() as counted:
            tables = measure_together(session, encoded)
        return tables, dict(counted)

    return run


PASSES: dict[str, dict[str, Any]] = {
    "all tables": {
        "tables": OF_PASSES,
        "fitted": True,
        "concepts": ("fr=France, Paris", "sp=Spain"),
        "attention_of": ("0.1", "1.0"),
    },
    "all positions": {"position": "all", "fitted": True, "compiled": True},  # loops of the samplers alone
    "experts": {"family": "mixtral", "tables": tuple(sorted(MIXED))},
}


@pytest.mark.parametrize("options", PASSES.values(), ids=PASSES)
def test_a_pass_waits_as_often_whatever_prompts_layers_and_stages(ran: Ran, options: Any) -> None:
    _, few = ran(2, 2, samplers=ONE_STAGE, **options)
    there, many = ran(3, 4, samplers=CHAINS, **options)
    assert few == many
    assert 0 < sum(few.values()) <= MOST, few
    here, none = ran(3, 4, there=False, samplers=CHAINS, **options)
    assert not none
    _near(there, here)


def test_a_default_pass_of_many_prompts_and_layers_waits_no_more_than_one_of_few(ran: Ran) -> None:
    _, few = ran(4, 4, samplers=ONE_STAGE)
    _, many = ran(30, 32, samplers=CHAINS)
    assert few == many
    assert 0 < sum(few.values()) <= MOST, few


def test_chains_of_rows_that_are_read_out_in_parts_wait_no_more_but_for_who_leads(ran: Ran) -> None:
    tables = ("survival", "sampling", "sampling_targets", "chain_differences", "lens")
    options: dict[str, Any] = {"tables": tables, "samplers": CHAINS, "foils": (), "targets": ("a", "e")}
    _, once = ran(2, 4, **options)
    there, parts = ran(2, 4, rows_at_once=1, **options)
    assert parts == once
    _near(there, ran(2, 4, there=False, **options)[0])
    _, once = ran(2, 4, **{**options, "targets": ()})
    _, parts = ran(2, 4, rows_at_once=1, **{**options, "targets": ()})
    assert sum(parts.values()) == sum(once.values()) + 3  # the leaders of each part are spelled, and followed


def test_passes_under_interventions_of_combined_rows_and_of_rollout_wait_as_often(ran: Ran) -> None:
    options: dict[str, Any] = {
        "tables": ("survival", "lens"),
        "rollout": True,
        "interventions": (Ablate("0.1", how="zero"), Scale("mlp.1", 0.5), Knockout("what")),
        "against": "The city of",
    }
    _, few = ran(2, 2, samplers=("guidance=2", "dola=[0]"), **options)
    there, many = ran(3, 4, samplers=("guidance=2,min_p=0.1", "dola=[0,1]"), **options)
    assert few == many
    assert sum(few.values()) <= 3 * MOST
    _near(there, ran(3, 4, there=False, samplers=("guidance=2,min_p=0.1", "dola=[0,1]"), **options)[0])


def test_passes_of_single_prompts_wait_as_often_whatever_layers_and_stages(ran: Ran) -> None:
    options: dict[str, Any] = {
        "tables": ("survival",),
        "through": ("hf:top_k=20",),
        "futures": 2,
        "repeat": 2,
        "repeat_control": 2,
    }
    _, few = ran(2, 1, samplers=CHAINS[:1], **options)
    _, many = ran(3, 1, samplers=CHAINS, **options)
    assert few == many
    assert few


def test_what_is_written_token_by_token_waits_once_a_token(ran: Ran) -> None:
    options: dict[str, Any] = {
        "tables": ("walk",), "watch": ("eos",), "samples": 2, "beams": 2, "risk": True
    }  # fmt: skip
    two, four, deep = (
        sum(ran(layers, 1, generate=length, samplers=chains, **options)[1].values())
        for layers, length, chains in ((2, 2, CHAINS[:1]), (2, 4, CHAINS[:1]), (3, 2, CHAINS))
    )
    assert two == deep
    texts = 6  # the walk, beams side by side, two samples that go on, and two that are scored
    assert 0 < four - two <= 2 * texts


def _near(found: Tables, expected: Tables) -> None:
    """Ranks and counts are equal; float32 sums in another order differ by their rounding."""
    assert set(found) == set(expected)
    for name, table in expected.items():
        assert found[name].schema == table.schema
        for column in table.column_names:
            both = [one[column].combine_chunks() for one in (found[name], table)]
            if pa.types.is_list(both[0].type):
                assert both[0].value_lengths().equals(both[1].value_lengths()), f"{name}.{column}"
                both = [one.flatten() for one in both]
            mine, other = (one.to_pandas() for one in both)
            told = f"{name}.{column}"
            if other.dtype.kind == "f":
                np.testing.assert_allclose(mine, other, rtol=1e-4, atol=2e-5, err_msg=told)
            else:
                assert mine.astype(str).tolist() == other.astype(str).tolist(), told
