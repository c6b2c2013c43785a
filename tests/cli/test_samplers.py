"""``elimtool samplers``: everything that there is gets listed, and everything listed can be shown."""

from __future__ import annotations

import json

import pytest

from elimtool.samplers import STAGES, preset_names
from tests.cli.conftest import Command


def test_list_names_every_engine_and_stage(elimtool: Command) -> None:
    done = elimtool("samplers", "list")
    assert done.code == 0
    for name in (*preset_names(), *STAGES):
        assert f"\n{name} " in f"\n{done.out}"
    found = json.loads(elimtool("samplers", "list", "--json").out)
    assert [stage["kind"] for stage in found["stages"]] == list(STAGES)
    assert [engine["name"] for engine in found["engines"]] == preset_names()


@pytest.mark.parametrize("kind", sorted(STAGES))
def test_every_stage_can_be_shown(elimtool: Command, kind: str) -> None:
    done = elimtool("samplers", "show", kind)
    assert done.code == 0
    assert done.out.startswith(kind)
    assert "sources:" in done.out
    found = json.loads(elimtool("samplers", "show", kind, "--json").out)
    for parameter in found["parameters"]:
        assert parameter["meaning"], f"{kind}.{parameter['name']} is not explained"
        assert f"{parameter['name']} " in done.out


@pytest.mark.parametrize("name", [*preset_names(), "top_k=40,temperature=0.8", "llama.cpp:top_k=3"])
def test_every_chain_can_be_shown(elimtool: Command, name: str) -> None:
    done = elimtool("samplers", "show", name)
    assert done.code == 0
    for stage in json.loads(elimtool("samplers", "show", name, "--json").out)["stages"]:
        assert stage["name"] in done.out


@pytest.mark.parametrize(
    ("name", "said"), [("lama.cpp", "llama.cpp"), ("top_p=7", "[0, 1]"), ("x.yaml", "x.yaml")]
)
def test_what_is_not_there(elimtool: Command, name: str, said: str) -> None:
    done = elimtool("samplers", "show", name)
    assert done.code == 2
    assert said in done.err
